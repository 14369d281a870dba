local base = require "native.base"

describe("base", function()
  it("hashes as SipHash-1-3 does", function()
    -- 64-bit result for key 00..0f and the empty input (vectors of the reference implementation)
    assert.equal(0xabac0158050fc4dc, base.hash(0x0706050403020100, 0x0f0e0d0c0b0a0908, ""))
    assert.not_equal(base.hash(1, 2, "a"), base.hash(1, 3, "a"))
  end)

  it("never hands out an id twice, and forgets the dead", function()
    local r = base.slots_script { { "add" } }
    local id = r[1]
    r = base.slots_script { { "add" }, { "get", id }, { "del", id }, { "get", id }, { "add" }, { "get", id } }
    assert.same({ id, true, true, false }, { r[1], r[2], r[3], r[4] })
    assert.not_equal(id, r[5])
    assert.is_false(r[6])
  end)

  it("caps a strbuf", function()
    assert.same({ 10, 0 }, { base.strbuf_fill(10, "ab", 5) })
    local len, rc = base.strbuf_fill(9, "ab", 5)
    assert.equal(8, len)
    assert.is_true(rc < 0)
  end)
end)
