local chunks = require "support.chunks"
local http = require "native.http"

describe("http_chunk", function()
  it("writes one chunk with its size, where nothing is promised", function()
    assert.equal("3\r\nabc\r\n", (http.chunk_write(0, "abc", 0)))
    local payload = ("x"):rep(0x1a2b3)
    assert.equal("1a2b3\r\n" .. payload .. "\r\n", (http.chunk_write(0, payload, 0)))
  end)

  it("fills what is promised before a new chunk begins", function()
    assert.equal("abc", (http.chunk_write(5, "abc", 0)))
    assert.equal("abc\r\n", (http.chunk_write(3, "abc", 0)))
    assert.equal("a\r\n2\r\nbc\r\n", (http.chunk_write(1, "abc", 0)))
  end)

  it("promises nothing when nothing leaves", function()
    for _, left in ipairs { 0, 1, 3, 9 } do
      assert.same({ 0, left, "" }, { select(2, http.chunk_write(left, "abc", 0)) })
    end
  end)

  it("keeps the framing and every byte wherever the kernel cuts", function()
    local payload = "abcdefghijklmnopqrstuvwxyz"
    for left = 0, 30 do
      local whole = http.chunk_write(left, payload, 0)
      for cut = 1, #whole do
        local body = chunks()
        local wire = left > 0 and ("%x\r\n"):format(left) or ""
        local _, taken, promised, rest = http.chunk_write(left, payload, cut)
        wire = wire .. whole:sub(1, cut) .. rest
        if taken < #payload then
          wire = wire .. http.chunk_write(promised, payload:sub(taken + 1), 0)
          promised = math.max(0, promised - (#payload - taken))
        end
        if promised > 0 then
          wire = wire .. http.chunk_write(promised, ("\n"):rep(promised), 0)
        end
        local got = body:feed(wire .. "0\r\n\r\n")
        local what = ("left %d, cut at %d"):format(left, cut)
        assert.equal(payload .. ("\n"):rep(#got - #payload), got, what)
        assert.is_true(body.complete, what)
      end
    end
  end)

  it("keeps them over many writes that are cut at random", function()
    local seed = tonumber(os.getenv "TIDEGATE_SPEC_SEED") or os.time()
    math.randomseed(seed)
    for _ = 1, 300 do
      local body, left, sent, wire = chunks(), 0, {}, {}
      for _ = 1, 40 do
        local payload = ("%x"):format(math.random(0, 2 ^ 30)):rep(math.random(1, 8))
        local whole = http.chunk_write(left, payload, 0)
        local n = math.random(0, 2) == 0 and #whole or math.random(0, #whole)
        local _, taken, promised, rest = http.chunk_write(left, payload, n)
        wire[#wire + 1] = whole:sub(1, n) .. rest
        sent[#sent + 1] = payload:sub(1, taken)
        left = promised
      end
      assert.equal(table.concat(sent), body:feed(table.concat(wire)), "seed " .. seed)
      assert.equal(left, body.left or 0, "seed " .. seed)
    end
  end)
end)
