-- What the pages say is tried: the policy works as described, and every name they mention exists.
local http = require "support.http"
local pages = require "support.pages"
local prometheus = require "support.prometheus"
local schema = require "config_schema"
local sse = require "support.sse"
local tidegate = require "support.tidegate"
local tree = require "support.tree"
local uv = require "luv"

local read = pages.read
local README, TOUR = pages.text(), read "src/README.md"

local function exists(path)
  local f = io.open(SPEC_SOURCE_DIR .. "/" .. path)
  if f then
    f:close()
  end
  return f ~= nil
end

-- Words between backticks, outside of code blocks.
local function code_words(text)
  local words = {}
  for word in text:gsub("\n```.-\n```", "\n"):gmatch "`([^`\n]+)`" do
    words[#words + 1] = word
  end
  return words
end

describe("a page", function()
  local function prose(text)
    return (("\n" .. text):gsub("\n```.-\n```", "\n"))
  end

  -- GitHub makes it of a heading.
  local function anchor_of(heading)
    return (heading:lower():gsub("[^%w%s_-]", ""):gsub("%s", "-"))
  end

  local function anchors(text)
    local known = {}
    for heading in prose(text):gmatch "\n#+ ([^\n]+)" do
      known[anchor_of(heading)] = true
    end
    for name in text:gmatch '<a name="([^"]+)">' do
      known[name] = true
    end
    return known
  end

  local function lines_of(command)
    local list = {}
    local pipe <close> = assert(io.popen(command))
    for line in pipe:lines() do
      list[#list + 1] = line
    end
    return list
  end

  local function paths()
    return lines_of(("cd '%s' && ls *.md && find src conf scripts spec -name '*.md'"):format(SPEC_SOURCE_DIR))
  end

  -- Below the folder `root`, where all pages are that paths() has.
  local function assert_links(root)
    local wrong, count = {}, 0
    for _, path in ipairs(paths()) do
      for link in read(path):gsub("\n```.-\n```", "\n"):gmatch "%]%(([^)%s]+)%)" do
        local file, anchor = link:match "^([^#]*)#?(.*)$"
        local target = file == "" and path or (path:match "^(.*/)" or "") .. file
        if not link:find "^%a+:" then
          count = count + 1
          if not uv.fs_stat(root .. "/" .. target) or (anchor ~= "" and not anchors(read(target))[anchor]) then
            wrong[#wrong + 1] = path .. ": " .. link
          end
        end
      end
    end
    assert.same({}, wrong)
    assert.is_true(count > 30)
  end

  it("has links that lead somewhere", function()
    assert_links(SPEC_SOURCE_DIR)
  end)

  it("has them where it is installed, too, and is installed once", function()
    local dir = tidegate.directory()
    finally(function() tree.remove(dir) end)
    local build = tidegate.binary():gsub("/[^/]*$", "")
    local code, _, err = tidegate.run("/bin/sh", { args = { "-c",
      ("DESTDIR='%s' cmake --install '%s' --prefix /usr"):format(dir, build) } })
    assert.equal(0, code, err)
    assert_links(dir .. "/usr/share/doc/tidegate")
    assert.equal(#paths(), #lines_of(("find '%s' -name '*.md'"):format(dir)))
  end)

  it("is one that a reader finishes: at most 350 lines", function()
    for _, path in ipairs(paths()) do
      local _, lines = read(path):gsub("\n", "")
      assert.is_true(lines <= 350, path .. ": " .. lines)
    end
  end)

  it("begins with links to its sections where it is longer than 100 lines", function()
    local count = 0
    for _, path in ipairs(paths()) do
      local text = prose(read(path))
      if select(2, read(path):gsub("\n", "")) > 100 then
        local before, links = text:match "^(.-)\n## ", 0
        assert.is_string(before, path .. " has no sections")
        for heading in text:gmatch "\n## ([^\n]+)" do
          local anchor = anchor_of(heading)
          assert.truthy(before:find("](#" .. anchor .. ")", 1, true), path .. ": no link to #" .. anchor)
        end
        for _ in before:gmatch "%]%(#" do
          links = links + 1
        end
        assert.is_true(links > 2, path .. ": " .. links .. " links")
        count = count + 1
      end
    end
    assert.is_true(count > 5)
  end)

  it("has lines of at most 150 columns, but for tables and what is recorded", function()
    for _, path in ipairs(paths()) do
      local number = 0
      for line in read(path):gmatch "([^\n]*)\n" do
        number = number + 1
        assert.is_true(utf8.len(line) <= 150 or line:find "^|" ~= nil or path:find "RESULTS%.md$" ~= nil
          or path:find "REFERENCE%.md$" ~= nil, path .. ":" .. number)
      end
    end
  end)

  it("is found from README.md", function()
    local readme = read "README.md"
    for _, path in ipairs(pages) do
      assert.truthy(path == "README.md" or readme:find("(" .. path .. ")", 1, true), path)
    end
  end)
end)

describe("the documentation", function()
  it("shows a policy that does what it is said to do", function()
    local policy = assert(README:match "```lua\n(.-)```")
    local _, lines = policy:gsub("%S[^\n]*\n", "")
    assert.is_true(lines <= 20, lines .. " lines")
    local broker = tidegate.start { policy = policy }
    local acme = sse.open(broker, { headers = { ["X-Api-Key"] = "key-of-acme" } })
    local large = sse.open(broker, { headers = { Cookie = "key=key-of-acme" }, query = { least = "10" } })
    local function publish(topic, data, amount)
      broker:publish(topic, data, { attrs = { amount = amount }, headers = { ["X-Api-Key"] = "key-of-shop" } })
    end
    publish("orders/bolt/1", "not for acme", "99")
    publish("orders/acme/1", "small", "5")
    publish("orders/acme/2", "large", "50")
    publish("news", "for all") -- without an amount
    assert.equal("small", acme:next().data)
    assert.equal("large", acme:next().data)
    assert.equal("for all", acme:next().data)
    assert.equal("large", large:next().data)
    assert.equal("for all", large:next().data)
    local r = http.post(broker, "/events?topic=orders/acme/3", "x", { ["X-Api-Key"] = "key-of-acme" })
    assert.equal(403, r.status)
    assert.equal("only the shop publishes", r.json.detail)
    assert.equal(401, http.get(broker, "/events", { Accept = "text/event-stream" }).status)
  end)

  it("shows why an event did not come, as it is told", function()
    local shown = assert(README:match "\n```\n(%$ tidegate explain .-)```")
    local broker = tidegate.start { policy = assert(README:match "```lua\n(.-)```") }
    local client = sse.open(broker, { headers = { ["X-Api-Key"] = "key-of-acme" }, query = { least = "10" } })
    local id = broker:publish("orders/acme/1", "small", { attrs = { amount = "5" },
      headers = { ["X-Api-Key"] = "key-of-shop" } })
    local connection = http.get(broker.admin, "/connections").json.connections[1].id
    local admin = ("%s:%d"):format(broker.admin.host, broker.admin.port)
    local code, out = tidegate.run(tidegate.binary(),
      { args = { "explain", "--admin", admin, "--conn", connection, "--event", id } })
    assert.equal(1, code)
    local function same_each_time(text) -- ids, times and the hash are not
      return (text:gsub("^%$[^\n]*\n", ""):gsub("shop%-1 %x+, %a+%.lua", "HASH, FILE"):gsub("%d%d%d%d%d+", "N")
        :gsub("%d+-%d+-%d+T[%d:]+Z", "T"))
    end
    assert.equal(same_each_time(shown), same_each_time(out))
    client:close()
  end)

  it("names metrics and admin paths that exist", function()
    local broker = tidegate.start { config = { workers = 2 } } -- shows all that one worker shows, and more
    local page = prometheus.parse(http.get(broker.admin, "/metrics").body)
    local metrics, paths = 0, 0
    for _, word in ipairs(code_words(README)) do
      local metric = word:match "^(tidegate_[%w_]+)" or word:match "^(process_[%w_]+)$"
      if metric then
        metrics = metrics + 1
        assert.is_table(page.families[metric], metric)
      end
      local path = word:match "^GET (/%w+)"
      if path and path ~= "/events" then
        paths = paths + 1
        assert.equal(200, http.get(broker.admin, path).status, path)
      end
    end
    assert.is_true(metrics > 12 and paths >= 5)
  end)

  it("names settings that exist", function()
    local sections = {}
    for _, field in ipairs(schema.fields) do
      if field.kind == "section" then
        sections[field.name] = {}
        for _, inner in ipairs(field.fields) do
          sections[field.name][inner.name] = true
        end
      end
    end
    local count = 0
    local others = { ["events.db"] = true, ["cache.fetch"] = true, ["cache.forget"] = true, ["http.get"] = true,
      ["http.post"] = true, ["presence.lua"] = true }
    for _, word in ipairs(code_words(README)) do
      local section, name, rest = word:match "^(%l[%l_]*)%.(%l[%l%d_]*)(%*?)"
      if section and sections[section] and not others[word:match "^[%l_.]+"] then
        local known = sections[section][name]
        for other in pairs(rest == "*" and sections[section] or {}) do
          known = known or other:sub(1, #name) == name
        end
        assert.is_true(known, word)
        count = count + 1
      end
    end
    assert.is_true(count > 20)
  end)
end)

describe("the tour of the source", function()
  it("names files that exist", function()
    -- every file and folder of the tree that documentation may name, also by the last parts of its path
    local known, count = {}, 0
    for _, root in ipairs { "src", "scripts", "spec", "conf" } do
      local pipe = assert(io.popen(("cd '%s' && find %s"):format(SPEC_SOURCE_DIR, root)))
      for path in pipe:lines() do
        repeat
          known[path], known[path .. "/"] = true, true
          path = path:match "^[^/]+/(.*)$"
        until not path
      end
      pipe:close()
    end
    for _, word in ipairs(code_words(TOUR .. README)) do
      if word:find "^[%w_./-]+%.[chl]u?a?$" or word:find "^[%w_./-]+%.md$" or word:find "^[%w_.-]+/[%w_./-]*$" then
        local found = word:find "^data/" or word:find "^/"
        found = found or known[word] or exists(word) or word:find "NAME" ~= nil or word:find "^build/"
          or word:find "^text/" or word:find "^application/" or word == "lua.h"
        assert.truthy(found, word)
        count = count + 1
      end
    end
    assert.is_true(count > 40)
  end)
end)
