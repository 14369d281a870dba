-- One commit for what arrives together: an fsync is what publishing waits for.
local eventually = require "support.eventually"
local http = require "support.http"
local tidegate = require "support.tidegate"

local PUBLISHERS = 16

describe("publishes", function()
  local broker = tidegate.shared()

  -- Connections that have published once, so that the broker knows them.
  local function publishers(n)
    local list = {}
    for i = 1, n do
      list[i] = http.connect(broker())
      assert.equal(201, list[i]:request("POST", "/events?topic=a", {}, "first").status)
    end
    return list
  end

  -- Sends `request` on all connections while the broker stands still, lets it go on, reads the answers.
  local function together(list, body)
    broker():signal "STOP"
    for _, c in ipairs(list) do
      c:send(http.render("POST", "/events?topic=a", {}, body))
    end
    broker():signal "CONT"
    local ids = {}
    for i, c in ipairs(list) do
      local r = c:response()
      assert.equal(201, r.status)
      ids[i] = r.json.id
    end
    return ids
  end

  it("that arrive together on many connections are one commit", function()
    local list = publishers(PUBLISHERS)
    -- Where turns take long (sanitizers, other work) nothing is waited for during the next 32 commits; a commit that
    -- began with the first event would never hold all.
    eventually("they are one commit", function()
      local commits = broker():metric "tidegate_store_commits_total"
      local events = broker():metric "tidegate_store_commit_events_total"
      together(list, "together")
      assert.equal(events + PUBLISHERS, broker():metric "tidegate_store_commit_events_total")
      return broker():metric "tidegate_store_commits_total" == commits + 1
    end, 60)
    for _, c in ipairs(list) do c:close() end
  end)

  it("do not wait for anybody who does not come", function()
    local list = publishers(2)
    for _ = 1, 20 do
      together(list, "both")
      assert.equal(201, list[1]:request("POST", "/events?topic=a", {}, "alone").status) -- 2 were expected
    end
    for _, c in ipairs(list) do c:close() end
  end)
end)
