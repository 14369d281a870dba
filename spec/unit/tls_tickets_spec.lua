-- net/tls/tls_tickets: which key a ticket of which hour is good with.
local native = require "native.tls"

local HOUR = 3600
local START = 500000 * HOUR

describe("keys of TLS tickets", function()
  local function fresh(chain, now)
    local answer, name = native.ticket_key(chain, now)
    assert.equal(1, answer)
    return name
  end

  it("are one for an hour, and that of the hour before is good for a new ticket", function()
    local chain = native.ticket_chain(START)
    local name = fresh(chain, START)
    assert.equal(name, fresh(chain, START + HOUR - 1))
    assert.equal(1, (native.ticket_key(chain, START + HOUR - 1, name)))
    assert.not_equal(name, fresh(chain, START + HOUR))
    assert.equal(2, (native.ticket_key(chain, START + HOUR, name)))
    assert.equal(2, (native.ticket_key(chain, START + 2 * HOUR - 1, name)))
    assert.equal(0, (native.ticket_key(chain, START + 2 * HOUR, name)))
    assert.equal(0, (native.ticket_key(chain, START + 2 * HOUR, ("x"):rep(16))))
  end)

  it("are the last one's successor after hours without use, and after a clock that jumped far", function()
    local chain = native.ticket_chain(START)
    local name = fresh(chain, START)
    for _, hours in ipairs { 1, 7, 100, 30 * 366 * 24 } do
      local later = START + hours * HOUR
      local other = fresh(chain, later)
      assert.not_equal(name, other)
      assert.equal(1, (native.ticket_key(chain, later, other)))
      name = other
    end
  end)

  it("do not come back when the clock goes back", function()
    local chain = native.ticket_chain(START)
    local first = fresh(chain, START)
    local later = fresh(chain, START + 5 * HOUR)
    assert.equal(later, fresh(chain, START))
    assert.equal(0, (native.ticket_key(chain, START, first)))
  end)

  it("differ from chain to chain", function()
    assert.not_equal(fresh(native.ticket_chain(START), START), fresh(native.ticket_chain(START), START))
  end)
end)
