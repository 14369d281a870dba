-- The blocks that sessions of HTTP/2 begin with: pages that others have used before are given back.
local native = require "native.h2"

describe("a large block for nghttp2", function()
  it("holds no resident page as a whole, though its memory was used", function()
    local before, after, sum = native.forget(16394)
    assert.is_true(before >= 3, before)
    assert.equal(0, after)
    assert.equal(0, sum) -- of the bytes in those pages: zero when they are used again
  end)

  it("may be smaller than a page", function()
    assert.same({ 0, 0, 0 }, { native.forget(100) })
  end)
end)
