local event = require "native.event"

describe("resume position", function()
  it("is an id, the beginning, nothing, or not ours", function()
    local cases = {
      { "", "now", 0 }, { "earliest", "earliest", 0 }, { "0", "after", 0 }, { "1", "after", 1 }, { "007", "after", 7 },
      { "9007199254740991", "after", 9007199254740991 },
      { ("0"):rep(300) .. "5", "after", 5 },
      { "9007199254740992", "unknown" }, { "18446744073709551617", "unknown" }, { ("9"):rep(400), "unknown" },
      { "-1", "unknown" }, { "+1", "unknown" }, { " 1", "unknown" }, { "1 ", "unknown" }, { "1.0", "unknown" },
      { "0x10", "unknown" }, { "1e3", "unknown" }, { "Earliest", "unknown" }, { "latest", "unknown" },
      { "1\0", "unknown" }, { "\0", "unknown" }, { "١", "unknown" }, { "urn:uuid:3", "unknown" },
    }
    for _, c in ipairs(cases) do
      local kind, id, text = event.resume_text(c[1])
      assert.equal(c[2], kind, ("%q"):format(c[1]))
      assert.equal(c[1], text)
      if c[3] then assert.equal(c[3], id) end
    end
  end)

  it("comes from the header first, then from the query", function()
    local function from(header, query) return select(2, event.resume(header, query)) end
    assert.equal("now", (event.resume(nil, "")))
    assert.equal(5, from("5", "last_event_id=6&lastEventId=7&Last-Event-ID=8"))
    assert.equal(6, from(nil, "Last-Event-ID=8&lastEventId=7&last_event_id=6"))
    assert.equal(7, from(nil, "Last-Event-ID=8&lastEventId=7"))
    assert.equal(8, from(nil, "topic=a&Last-Event-ID=8"))
    assert.equal("earliest", (event.resume(nil, "last_event_id=earliest")))
    assert.equal("unknown", (event.resume("x", "last_event_id=6")), "a bad header is not passed over")
  end)

  it("takes an empty value for no value", function()
    assert.equal("now", (event.resume("", "")))
    assert.equal("now", (event.resume("", "last_event_id=&lastEventId=")))
    local kind, id = event.resume("", "last_event_id=&lastEventId=9")
    assert.same({ "after", 9 }, { kind, id })
  end)

  it("ignores other spellings", function()
    assert.equal("now", (event.resume(nil, "last-event-id=5&LAST_EVENT_ID=5&lasteventid=5")))
  end)
end)
