-- The pages that operators, policy authors and developers of applications read.
local files = require "support.files"

local M = { "README.md", "scripts/CLIENTS.md", "scripts/LANGUAGES.md", "scripts/TUTORIAL.md", "scripts/README.md",
  "scripts/RULES.md", "scripts/QUOTAS.md", "scripts/STREAMS.md", "scripts/PRESENCE.md", "scripts/DIALECTS.md",
  "scripts/CLOUDEVENTS.md", "scripts/MCP.md", "scripts/policies/README.md",
  "scripts/policies/MERCURE.md", "scripts/TESTING.md", "conf/README.md", "conf/TLS.md",
  "conf/OPERATIONS.md", "conf/PRIVACY.md", "conf/POSTGRESQL.md", "conf/REFERENCE.md", "spec/bench/README.md" }

function M.read(path)
  return files.read(SPEC_SOURCE_DIR .. "/" .. path)
end

-- All of them, one behind the other.
function M.text()
  local list = {}
  for i, path in ipairs(M) do
    list[i] = M.read(path)
  end
  return table.concat(list, "\n")
end

return M
