-- tidegate test scripts/policies/spec
local t = require "tidegate.test"

describe("answers in pieces", function()
  local p

  before_each(function()
    p = t.policy("../answers.lua", { now = 1700000000, keys = { main = t.key "HS256" } })
  end)

  local function token(sub, role)
    return p:token { iss = "https://id.example", aud = "tidegate", sub = sub, role = role }
  end
  local function read(sub, conversation, options)
    options = options or {}
    options.bearer, options.query = token(sub), { conversation = conversation, last_event_id = "earliest" }
    return p:connect(options)
  end
  local function piece(seq, text, type, role)
    return p:post { bearer = token("model-1", role or "producer"), topic = "answers/ann/7", type = type, data = text,
      attrs = { seq = seq } }
  end
  local function text(c)
    local parts = {}
    for i, event in ipairs(c:events()) do
      parts[i] = event.data
    end
    return table.concat(parts)
  end

  it("come in order, once, and end the stream of their reader", function()
    local c = read("ann", "7")
    assert.granted(c)
    assert.granted(piece(1, "Tide"))
    local first = piece(2, "gate")
    assert.equal(first.id, piece(2, "gate").id) -- the producer was not sure
    assert.equal("Tidegate", text(c))
    assert.is_false(c:closed())
    piece(3, "!", "done")
    assert.equal("Tidegate!", text(c))
    assert.is_true(c:closed())
    assert.faultless(p)
  end)

  it("are read again from the middle, and by a reader who comes late", function()
    piece(1, "Ti")
    local from = piece(2, "de").id
    piece(3, "gate", "done")
    local late = read("ann", "7")
    assert.equal("Tidegate", text(late))
    assert.is_true(late:closed())
    local back = read("ann", "7", { headers = { ["last-event-id"] = tostring(from) } })
    assert.equal("gate", text(back))
    local done = read("ann", "7", { headers = { ["last-event-id"] = tostring(late:ids()[3]) } })
    assert.denied(204, done)
  end)

  it("are for their owner alone", function()
    local eve = read("eve", "7")
    piece(1, "private")
    assert.equal("", text(eve))
    assert.denied(400, read("eve", "../ann/7"))
    assert.denied(403, p:connect { bearer = token "*", query = { conversation = "7" } })
    assert.denied(401, p:connect { query = { conversation = "7" } })
  end)

  it("come from producers, in pieces with numbers", function()
    assert.denied(403, piece(1, "I am the model", nil, "user"))
    for _, seq in ipairs { 0, -1, 1.5, "x", false } do
      assert.denied(400, piece(seq, "x"))
    end
    assert.denied(403, p:post { bearer = token("model-1", "producer"), topic = "other", data = 1, attrs = { seq = 1 } })
  end)
end)
