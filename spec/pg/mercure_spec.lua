-- scripts/policies/MERCURE.md: updates that an application writes into its outbox, as that page has it.
local http = require "support.http"
local pages = require "support.pages"
local pg = require "support.pg"
local sse = require "support.sse"
local tokens = require "support.tokens"

local HUB = "/.well-known/mercure"

describe("an update that is written into the outbox", function()
  local server = pg.shared {}

  it("is a private one of its topic", function()
    local key = tokens.key "HS256"
    local db = server():database()
    local broker = db:broker {
      policy_file = SPEC_SOURCE_DIR .. "/scripts/policies/mercure.lua",
      config = {
        keys = { main = { secret = key } },
        http = { routes = { { path = HUB, subscribe = true, publish = "form", topic = "mercure" } } },
        policy = { settings = { alg = { "HS256" }, anonymous = true } },
      },
    }
    local function open(subscribe)
      local token = tokens.sign("HS256", key, { exp = os.time() + 600, mercure = { subscribe = subscribe } })
      return sse.open(broker, { path = HUB, topic = "https://example.org/books/{id}",
        headers = { Authorization = "Bearer " .. token } })
    end
    local ann, bob = open { "https://example.org/books/1" }, open { "https://example.org/books/2" }
    local insert = assert(pages.read("scripts/policies/MERCURE.md"):match "\n(INSERT INTO tidegate%.outbox.-;)\n")
    db:sql(insert, pg.APP)
    assert.equal('{"status":"sold"}', ann:next().data)
    db:sql((insert:gsub("private", "public"):gsub("sold", "new")), pg.APP)
    assert.equal('{"status":"new"}', bob:next().data)
    assert.equal('{"status":"new"}', ann:next().data)
    assert.equal(404, http.get(broker, HUB .. "/subscriptions").status)
  end)
end)
