-- A headless Chromium, driven through chromedriver (W3C WebDriver over HTTP).
--
--   local browser = webdriver.open()
--   browser:go("http://127.0.0.1:8080/")
--   browser:type("#topic", "a/b")           replaces what the field holds
--   browser:click("#publish button")
--   browser:text("#state")                  what a reader sees
--   browser:script("return document.title")
--   browser:close()
local child = require "support.child"
local eventually = require "support.eventually"
local http = require "support.http"
local uv = require "luv"

local M = {}
local browser = {}
browser.__index = browser

-- Both programs, or nil and which one is missing.
function M.available()
  for _, name in ipairs { "chromedriver", "chromium" } do
    if not child.find(name) then
      return nil, name .. " is not installed"
    end
  end
  return true
end

-- One WebDriver command; returns its value, raises its error.
function browser:command(method, path, body)
  local c = assert(http.connect(self.target))
  local text = body and http.json.encode(body)
  local headers = { Connection = "close", ["Content-Type"] = text and "application/json; charset=utf-8" }
  assert(c:send(http.render(method, path, headers, text)))
  local r = assert(c:response { timeout = 60 })
  c:close()
  local value = r.json and r.json.value
  if r.status ~= 200 then
    error(("%s %s: %s"):format(method, path, type(value) == "table" and value.message or r.body), 2)
  end
  return value
end

function browser:session_command(method, path, body)
  return self:command(method, "/session/" .. self.session .. path, body)
end

local EMPTY_OBJECT = setmetatable({}, { __jsontype = "object" })

-- Processes whose command line names our own profile directory: this browser's and no other's.
local function browser_pids(profile)
  local pids = {}
  local scan = uv.fs_scandir "/proc"
  while scan do
    local name = uv.fs_scandir_next(scan)
    if not name then
      break
    end
    local f = name:find "^%d+$" and io.open("/proc/" .. name .. "/cmdline", "rb")
    if f then
      if (f:read "a" or ""):find(profile, 1, true) then
        pids[#pids + 1] = tonumber(name)
      end
      f:close()
    end
  end
  return pids
end

function M.open()
  assert(M.available())
  local self = setmetatable({ profile = child.directory() }, browser)
  self.driver = child.start(child.find "chromedriver", { "--port=0" })
  local ok, err = pcall(function()
    local port = eventually("chromedriver listens", function()
      assert(self.driver:running(), self.driver:errors())
      return self.driver:output():match "started successfully on port (%d+)"
    end, 30)
    self.target = { host = "127.0.0.1", port = tonumber(port) }
    local value = self:command("POST", "/session", { capabilities = { alwaysMatch = {
      browserName = "chrome",
      ["goog:loggingPrefs"] = { browser = "ALL" },
      ["goog:chromeOptions"] = {
        binary = child.find "chromium",
        args = {
          "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage",
          "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
          "--user-data-dir=" .. self.profile,
        },
      },
    } } })
    self.session = value.sessionId
  end)
  if not ok then
    self:close()
    error(err, 2)
  end
  return self
end

function browser:go(url)
  self:session_command("POST", "/url", { url = url })
end

function browser:script(text, ...)
  return self:session_command("POST", "/execute/sync", {
    script = text,
    args = setmetatable({ ... }, { __jsontype = "array" }),
  })
end

-- The id under which WebDriver knows the one element that matches.
function browser:element(css)
  local found = self:session_command("POST", "/element", { using = "css selector", value = css })
  return select(2, next(found))
end

function browser:click(css)
  self:session_command("POST", "/element/" .. self:element(css) .. "/click", EMPTY_OBJECT)
end

function browser:text(css)
  return self:session_command("GET", "/element/" .. self:element(css) .. "/text")
end

function browser:type(css, text)
  local element = self:element(css)
  self:session_command("POST", "/element/" .. element .. "/clear", EMPTY_OBJECT)
  if text ~= "" then
    self:session_command("POST", "/element/" .. element .. "/value", { text = text })
  end
end

-- Messages of the browser's console since the last call: refused resources, script errors.
function browser:console()
  local messages = {}
  for _, entry in ipairs(self:session_command("POST", "/se/log", { type = "browser" })) do
    messages[#messages + 1] = entry.level .. " " .. entry.message
  end
  return messages
end

function browser:close()
  if self.session then
    pcall(self.session_command, self, "DELETE", "")
    self.session = nil
  end
  self.driver:stop()
  -- a browser whose driver died under it stays behind
  for _, pid in ipairs(browser_pids(self.profile)) do
    uv.kill(pid, "sigkill")
  end
  eventually("the browser's processes are gone", function() return #browser_pids(self.profile) == 0 end)
  child.remove_tree(self.profile)
end

return M
