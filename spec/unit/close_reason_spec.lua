local reason_of = require "native.sockets".close_reason

describe("an error of a socket", function()
  it("says that the peer cannot be reached, where that is what it says", function()
    for _, name in ipairs { "ETIMEDOUT", "EHOSTUNREACH", "EHOSTDOWN", "ENETUNREACH", "ENETDOWN" } do
      assert.equal("dead-peer", reason_of(name), name)
    end
  end)

  it("is the client's doing otherwise", function()
    for _, name in ipairs { "ECONNRESET", "EPIPE", "ECANCELED", "EIO", "ECONNABORTED" } do
      assert.equal("client-error", reason_of(name), name)
    end
  end)
end)
