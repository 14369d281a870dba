-- Keys behind a URL: fetched, rotated, lost.
local eventually = require "support.eventually"
local http_server = require "support.http_server"
local keyring = require "native.keyring"
local tokens = require "support.tokens"

local NOW = 1700000000
local old, new = tokens.key("EdDSA", "old"), tokens.key("EdDSA", "new")

local function token(key, kid)
  return tokens.sign("EdDSA", key, { exp = NOW + 60 }, { kid = kid })
end

describe("keys behind a URL", function()
  local server, k, answer

  before_each(function()
    answer = { body = tokens.jwks(tokens.jwk(old, { kid = "old" })) }
    server = http_server.start(function(_, client)
      http_server.answer(client, answer)
    end)
  end)

  after_each(function()
    k:close()
    server:stop()
  end)

  local function open(options)
    options = options or {}
    options.url = options.url or server.url .. "/jwks.json"
    k = keyring.open(options)
  end

  local function wait(what, condition)
    return eventually(what, function()
      k:turn()
      return condition()
    end)
  end

  local function wait_for_keys()
    wait("the keys are there", function() return k:metrics().key_reads == 1 end)
  end

  it("are fetched at the start; until then nothing is said about a token", function()
    open()
    assert.same({ nil, "failed", "keys are not available yet" }, { k:verify(token(old, "old"), NOW) })
    wait_for_keys()
    assert.equal("/jwks.json", server.requests[1].target)
    assert.equal("application/json", server.requests[1].headers.accept)
    assert.truthy(k:verify(token(old, "old"), NOW))
    assert.same({ nil, "bad", "the token has expired" }, { k:verify(token(old, "old"), NOW + 60) })
    assert.same({ 1, 0, 1, 1 }, { k:metrics().tokens_verified, k:metrics().tokens_cached, k:metrics().tokens_refused,
      k:metrics().tokens_unanswered })
    assert.truthy(k:verify(token(old, "old"), NOW))
    assert.truthy(k:verify(token(old, "old"), NOW))
    assert.same({ 2, 1 }, { k:metrics().tokens_verified, k:metrics().tokens_cached }) -- the expired one was forgotten
  end)

  it("are asked for again and again while the server is down", function()
    answer = { status = 503 }
    open()
    wait("it was asked twice", function() return k:metrics().key_read_failures == 2 end)
    assert.equal(1, k:metrics().key_sets_unavailable)
    assert.same({ nil, "failed", "keys are not available yet" }, { k:verify(token(old, "old"), NOW) })
    answer = { body = tokens.jwks(tokens.jwk(old, { kid = "old" })) }
    wait_for_keys()
    assert.truthy(k:verify(token(old, "old"), NOW))
    wait("the gauge says so", function() return k:metrics().key_sets_unavailable == 0 end)
  end)

  it("stay while an answer is no good", function()
    open { refresh_s = 1 }
    wait_for_keys()
    for _, bad in ipairs { { status = 500 }, { status = 302, headers = { Location = "/" } }, { body = "<html>" },
      { body = '{"keys":[]}' }, { body = tokens.jwks(tokens.jwk(tokens.SECRET)) }, { body = (" "):rep(300000) } } do
      local failures = k:metrics().key_read_failures
      answer = bad
      k:reload()
      wait("it was refused", function() return k:metrics().key_read_failures > failures end)
      assert.truthy(k:verify(token(old, "old"), NOW))
    end
    assert.is_nil((k:verify(tokens.sign("HS256", tokens.SECRET, { exp = NOW + 60 }), NOW)))
  end)

  it("are used for stale_s at most when they cannot be had again", function()
    open { refresh_s = 1, stale_s = 2 }
    local from = os.time()
    wait_for_keys()
    answer = { status = 500 }
    wait("they are too old", function() return not k:verify(token(old, "old"), NOW) end)
    assert.same({ nil, "failed", "keys are not available yet" }, { k:verify(token(old, "old"), NOW) })
    local failures, took = k:metrics().key_read_failures, os.time() - from + 1
    assert.is_true(failures > 0 and failures <= took + 1, ("%d failures in %d s"):format(failures, took))
    answer = { body = tokens.jwks(tokens.jwk(old, { kid = "old" })) }
    wait("they are back", function() return k:verify(token(old, "old"), NOW) end)
  end)

  it("are looked at again when a token names one that is not there", function()
    open { fresh_ms = 200 }
    wait_for_keys()
    answer = { body = tokens.jwks(tokens.jwk(new, { kid = "new" })) }
    wait("the answer is old enough", function()
      return select(2, k:verify(token(new, "new"), NOW)) == "failed"
    end)
    assert.same({ nil, "failed", "the token's key is not known yet, keys are being fetched" },
      { k:verify(token(new, "new"), NOW) })
    wait("the new key is known", function() return k:verify(token(new, "new"), NOW) end)
    assert.equal(2, #server.requests)
    -- what was withdrawn is of no use, however often it was verified before
    assert.is_nil((k:verify(token(old, "old"), NOW)))
  end)

  it("are not fetched more often, however many unknown keys are named", function()
    open()
    wait_for_keys()
    for i = 1, 100 do
      assert.same({ nil, "bad", "the token is signed with an unknown key (kid)" },
        { k:verify(token(new, "kid" .. i), NOW) })
      k:turn()
    end
    assert.equal(1, #server.requests)
  end)

  it("are not fetched more often where fetching fails, either", function()
    open { fresh_ms = 500 }
    wait_for_keys()
    answer = { status = 500 }
    local from = eventually.now()
    local function took() return eventually.now() - from end
    local n = 0
    wait("unknown keys have been named for a while", function()
      n = n + 1
      assert.is_nil((k:verify(token(new, "kid" .. n), NOW)))
      return took() > 1.5
    end)
    -- once in fresh_ms, and as often for the retries after a failure
    assert.is_true(#server.requests <= 3 + 2 * took() / 0.5, #server.requests .. " requests")
  end)

  it("that are the same again leave verified tokens known", function()
    open { refresh_s = 1 }
    wait_for_keys()
    assert.truthy(k:verify(token(old, "old"), NOW))
    wait("they were fetched again", function() return k:metrics().key_reads > 1 end)
    assert.truthy(k:verify(token(old, "old"), NOW))
    assert.same({ 1, 1 }, { k:metrics().tokens_verified, k:metrics().tokens_cached })
  end)

  it("do not wait for the requests of policies", function()
    local others = http_server.start(function() end)
    finally(function() others:stop() end)
    open { busy_with = others.url }
    wait("all it may have is on the wire", function() return #others.requests == 4 end)
    wait_for_keys()
    assert.same({ 4, 0 }, { #others.requests, k:metrics().key_read_failures })
  end)

  it("can be closed in the middle of a request", function()
    server.respond = function() end
    open()
    wait("it is asked", function() return #server.requests == 1 end)
  end)

  it("of a server that is not there", function()
    open { url = "http://127.0.0.1:1/" }
    wait("it failed", function() return k:metrics().key_read_failures > 0 end)
  end)
end)
