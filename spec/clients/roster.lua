-- The clients that matrix_spec.lua takes through outages: how each is started, and where it does something
-- else than an EventSource.
--
--   source    npm: package.json here; debian: .ci/packages, section [clients]
--   parser    whose text/event-stream parser it is: "own", or "loop" where only HTTP is the library's and
--             the adapter reads the lines
--   empty     "dropped": an event without data never reaches the user
--   lines     "last": of data in several lines only the last one does
--   refused   "asks again": a final status does not stop it
--   node      the Node.js that it needs, where Debian 12 has an older one (18)
local child = require "support.child"
local uv = require "luv"

local M = {}

local FOLDER = SPEC_SOURCE_DIR .. "/spec/clients/adapters"
local BUILD = SPEC_SOURCE_DIR .. "/build/clients"
M.binary = BUILD .. "/clients_go"

-- Adapters in JavaScript run through a link beside node_modules: that is where Node.js looks for packages.
local function node(file)
  return { "node", "--preserve-symlinks", "--preserve-symlinks-main", BUILD .. "/adapters/" .. file }
end

-- Not the first python3 on PATH: the packages are those of Debian.
local RUN = {
  ["eventsource.mjs"] = node "eventsource.mjs",
  ["callbacks.mjs"] = node "callbacks.mjs",
  ["parsers.mjs"] = node "parsers.mjs",
  ["browser.mjs"] = node "browser.mjs",
  ["page.mjs"] = node "page.mjs",
  ["mcp_client.mjs"] = node "mcp_client.mjs",
  ["mcp_server.mjs"] = node "mcp_server.mjs",
  ["cloudevents.mjs"] = node "cloudevents.mjs",
  ["python.py"] = { "/usr/bin/python3", "-B", FOLDER .. "/python.py" },
  ["perl.pl"] = { "perl", FOLDER .. "/perl.pl" },
  ["curl.pl"] = { "perl", FOLDER .. "/curl.pl" },
  ["ruby.rb"] = { "ruby", FOLDER .. "/ruby.rb" },
  ["php.php"] = { "php", FOLDER .. "/php.php" },
  ["mercure.php"] = { "php", FOLDER .. "/mercure.php" },
  ["Java.java"] = { "java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", FOLDER .. "/Java.java" },
  ["clients.go"] = { M.binary },
}

M.all = {
  { "eventsource 2", "eventsource.mjs", source = "npm" },
  { "eventsource 3", "eventsource.mjs", source = "npm" },
  { "eventsource 4", "eventsource.mjs", source = "npm", node = 20 },
  { "@sanity/eventsource", "eventsource.mjs", source = "npm" },
  { "event-source-polyfill", "eventsource.mjs", source = "npm" },
  { "extended-eventsource", "eventsource.mjs", source = "npm" },
  { "launchdarkly-eventsource", "eventsource.mjs", source = "npm" },
  { "reconnecting-eventsource", "eventsource.mjs", source = "npm", refused = "asks again" },
  { "undici", "eventsource.mjs", source = "npm", node = 20 },
  { "@ai-zen/node-fetch-event-source", "callbacks.mjs", source = "npm" },
  { "@fortaine/fetch-event-source", "callbacks.mjs", source = "npm" },
  { "@microsoft/fetch-event-source", "callbacks.mjs", source = "npm" },
  { "event-source-plus", "callbacks.mjs", source = "npm", lines = "last" },
  { "eventsource-client", "callbacks.mjs", source = "npm", refused = "asks again" },
  { "@azure/core-sse", "parsers.mjs", source = "npm", node = 20 },
  { "eventsource-parser", "parsers.mjs", source = "npm" },
  { "fetch-event-stream", "parsers.mjs", source = "npm" },
  { "parse-sse", "parsers.mjs", source = "npm", node = 20, empty = "dropped" },
  { "donovanhide/eventsource", "clients.go", source = "debian", refused = "asks again" },
  { "symfony/http-client", "php.php", source = "debian" },
  { "aiohttp", "python.py", source = "debian", parser = "loop" },
  { "httpx", "python.py", source = "debian", parser = "loop" },
  { "requests", "python.py", source = "debian", parser = "loop" },
  { "urllib", "python.py", source = "debian", parser = "loop" },
  { "urllib3", "python.py", source = "debian", parser = "loop" },
  { "HTTP::Tiny", "perl.pl", source = "debian", parser = "loop" },
  { "LWP::UserAgent", "perl.pl", source = "debian", parser = "loop" },
  { "Mojo::UserAgent", "perl.pl", source = "debian", parser = "loop" },
  { "net/http", "ruby.rb", source = "debian", parser = "loop" },
  { "em-http-request", "ruby.rb", source = "debian", parser = "loop" },
  { "java.net.http", "Java.java", source = "debian", parser = "loop" },
  { "Go net/http", "clients.go", source = "debian", parser = "loop" },
  { "guzzle", "php.php", source = "debian", parser = "loop" },
  { "php-curl", "php.php", source = "debian", parser = "loop" },
  { "curl", "curl.pl", source = "debian", parser = "loop" },
  { "Chromium", "browser.mjs", source = "debian" },
  { "Firefox", "browser.mjs", source = "debian" },
  { "WebKitGTK", "browser.mjs", source = "debian" },
}

-- Those that the Node.js at hand can run, and the names of the others.
M.clients, M.left_out = {}, {}
do
  local pipe = assert(io.popen "node --version")
  local major = tonumber(pipe:read("l"):match "^v(%d+)")
  pipe:close()
  for _, entry in ipairs(M.all) do
    if major >= (entry.node or 0) then
      M.clients[#M.clients + 1] = entry
    else
      M.left_out[#M.left_out + 1] = entry[1]
    end
  end
end

local function minibrowser()
  for _, folder in ipairs { "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/libexec" } do
    local path = folder .. "/webkit2gtk-4.1/MiniBrowser"
    if uv.fs_access(path, "X") then
      return path
    end
  end
end

-- A process for the client, with `env` (may be nil) added to its environment; it ends with this one, whatever
-- happens to this one.
function M.start(name, file, url, env)
  local args = { "--pdeathsig", "TERM", "--" }
  for _, word in ipairs(RUN[file]) do
    args[#args + 1] = word
  end
  args[#args + 1] = name
  args[#args + 1] = url
  local all = { MINIBROWSER = minibrowser() }
  for k, v in pairs(env or {}) do
    all[k] = v
  end
  return child.start(assert(child.find "setpriv"), args, { env = all })
end

-- Builds what is compiled. An error says what to do.
function M.prepare()
  assert(uv.fs_stat(BUILD .. "/node_modules"), "the clients are not installed: run .ci/deps clients")
  local go = child.start(assert(child.find "go", "run .ci/deps clients"),
    { "build", "-o", M.binary, FOLDER .. "/clients.go" },
    { env = { GO111MODULE = "off", GOPATH = "/usr/share/gocode", GOCACHE = BUILD .. "/go-cache", GOFLAGS = "" } })
  local code, why = go:wait(120), go:errors()
  go:stop()
  assert(code == 0, why)
end

return M
