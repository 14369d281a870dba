-- Many clients come, or go, within one turn of the loop: they are dealt with over several, each of them completely.
local eventually = require "support.eventually"
local http = require "support.http"
local sse = require "support.sse"
local tidegate = require "support.tidegate"

describe("many clients", function()
  local N = 150
  local broker = tidegate.shared()

  -- What the clients do meanwhile is there when the broker goes on.
  local function at_once(body)
    broker():signal "STOP"
    local ok, why = pcall(body)
    broker():signal "CONT"
    assert(ok, why)
  end

  it("that come at once are all served, in full", function()
    local stream = sse.open(broker(), { topic = "t" })
    local clients = {}
    at_once(function()
      for i = 1, N do
        local c = http.connect(broker())
        if i % 3 == 0 then -- the request is complete, and so is what it sends at all
          c:send(http.render("POST", "/events?topic=other", nil, "x"))
          c:shutdown()
        elseif i % 3 == 1 then -- two requests, one of them in pieces
          c:send(http.render("POST", "/events?topic=other", nil, "x") .. "POST /events?topic=oth")
        else
          c:send(http.render("GET", "/events?topic=t"))
        end
        clients[i] = c
      end
    end)
    for i, c in ipairs(clients) do
      local r = assert(i % 3 == 2 and c:head() or i % 3 ~= 2 and c:response(), "answer " .. i)
      assert.equal(i % 3 == 2 and 200 or 201, r.status)
      if i % 3 == 1 then
        c:send "er HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx"
        assert.equal(201, assert(c:response(), "second answer").status)
      end
    end
    assert.equal(1 + N / 3, broker():metric "tidegate_subscribers")
    broker():publish("t", "after")
    assert.equal("after", stream:next().data)
    -- and go at once, all but the first stream
    at_once(function()
      for _, c in ipairs(clients) do
        c:close()
      end
    end)
    broker():publish("t", "alone")
    assert.equal("alone", stream:next().data)
    eventually("they are gone", function()
      return broker():metric "tidegate_subscribers" == 1 and broker():metric "tidegate_connections" == 1
    end)
  end)

  it("that are gone before their turn leave nothing behind", function()
    local before = broker():metric "tidegate_connections_accepted_total"
    at_once(function()
      for i = 1, N do
        local c = http.connect(broker())
        c:send(i % 2 == 0 and http.render("GET", "/events?topic=gone") or "")
        c:close()
      end
    end)
    eventually("all came and went", function()
      return broker():metric "tidegate_connections_accepted_total" >= before + N
        and broker():metric "tidegate_connections" <= 1
    end)
    assert.equal(200, http.get(broker().admin, "/healthz").status)
  end)
end)
