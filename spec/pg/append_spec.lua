-- What becomes of a batch of publishes whose statement is late, or comes a second time.
local eventually = require "support.eventually"
local http = require "support.http"
local pg = require "support.pg"
local uv = require "luv"

-- A TCP relay in front of a server, turned by eventually(): on_append(link, n) is told of the n-th statement that
-- appends and answers whether it goes on its way; link:cut() closes the connection.
local function relay(port, on_append)
  local self = { listener = uv.new_tcp(), links = {}, appends = 0 }
  assert(self.listener:bind("127.0.0.1", 0))
  self.port = self.listener:getsockname().port
  assert(self.listener:listen(32, function()
    local link = { client = uv.new_tcp(), server = uv.new_tcp() }
    function link.cut()
      for _, h in ipairs { link.client, link.server } do
        if not h:is_closing() then
          h:close()
        end
      end
    end
    local function pass(from, to, filter)
      from:read_start(function(_, bytes)
        if not bytes then
          link.cut()
        elseif (not filter or filter(bytes)) and not to:is_closing() then
          to:write(bytes)
        end
      end)
    end
    self.links[#self.links + 1] = link
    self.listener:accept(link.client)
    link.server:connect("127.0.0.1", port, function(err)
      if err then
        return link.cut()
      end
      pass(link.server, link.client)
      pass(link.client, link.server, function(bytes)
        if not bytes:find "B....\0append\0" then -- Bind to the portal without a name, of that statement
          return true
        end
        self.appends = self.appends + 1
        return on_append(link, self.appends)
      end)
    end)
  end))
  function self.stop()
    for _, link in ipairs(self.links) do
      link.cut()
    end
    self.listener:close()
    uv.run "nowait"
  end
  return self
end

describe("tidegate.append()", function()
  local server = pg.shared {}
  local WRITER = "00000000-0000-4000-8000-000000000001"

  local function append(db, batch, data, key)
    return db:try(("SELECT * FROM tidegate.append('%s', %d, 1000000, %s, '{t}', '{NULL}', '{%s}', '{NULL}', '{%s}',"
      .. " '{1764000000000}')"):format(WRITER, batch, key ~= nil, data, key or "NULL"), pg.OWNER)
  end

  local function stored(db)
    return db:sql "SELECT string_agg(data, ' ' ORDER BY seq) FROM tidegate.events"
  end

  it("stores a batch once, and nothing of one that comes after its time", function()
    local db = server():database()
    local one = assert(append(db, 1, "one"))
    assert.equal(one, append(db, 1, "one"))
    local two = assert(append(db, 2, "two"))
    -- the statement of a connection that was given up, of which the server knew nothing
    local late, why = append(db, 1, "one")
    assert.is_nil(late)
    assert.matches("batch 1 of this writer comes after its batch 2", why, 1, true)
    assert.equal(two, append(db, 2, "two")) -- its answer was lost
    assert.equal("one two", stored(db))
    assert.is_truthy(append(db, 3, "three"))
    assert.equal("one two three", stored(db))
  end)
end)

describe("a publish whose connection to PostgreSQL breaks, and the next one stalls", function()
  it("is answered within one time limit, the repeat included", function()
    local PATIENCE, HOLD = 10, 4
    local db = pg.start({}):database()
    local cut_at, repeated_at, link
    local between = relay(db.server.port, function(l, n)
      if n == 1 then
        cut_at, link = eventually.now() + HOLD, l
      else
        repeated_at = repeated_at or eventually.now()
      end
      return false
    end)
    finally(function() between.stop() end)
    local b = db:broker { config = { store = { append_timeout_ms = PATIENCE * 1000,
      conninfo = ("host=127.0.0.1 port=%d user=%s dbname=%s"):format(between.port, pg.OWNER, db.name) } } }
    local c = http.connect(b)
    c:send(http.render("POST", "/events?topic=t", nil, "x"))
    local r = eventually("an answer", function()
      if cut_at and eventually.now() >= cut_at and link then
        link.cut()
        link = nil
      end
      return c:response { timeout = 0 }
    end, 60)
    assert.equal(503, r.status)
    assert.matches("not known whether", r.body, 1, true)
    assert.is_truthy(repeated_at, "it was not sent again")
    -- a limit for each statement would be PATIENCE; this one has had HOLD of it before
    local waited = eventually.now() - repeated_at
    assert.is_true(waited < PATIENCE, ("answered %.1f s after the repeat"):format(waited))
  end)
end)
