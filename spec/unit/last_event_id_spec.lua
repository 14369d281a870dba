local event = require "native.event"

describe("start position", function()
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

  it("comes from the header and from the query, in any usual spelling", function()
    local function from(header, query) return select(2, event.resume(header, query)) end
    assert.equal("now", (event.resume(nil, "")))
    for _, name in ipairs { "last_event_id", "lastEventId", "lastEventID", "Last-Event-ID" } do
      assert.equal(8, from(nil, "topic=a&" .. name .. "=8"), name)
      assert.same({ "earliest" }, { (event.resume(nil, name .. "=earliest")) })
    end
    assert.equal(8, from("8", "topic=a"))
  end)

  it("is the greatest of several", function()
    local function from(header, query) return select(2, event.resume(header, query)) end
    assert.equal(8, from("5", "last_event_id=6&lastEventId=7&lastEventID=8&Last-Event-ID=4"))
    assert.equal(9, from("9", "last_event_id=6&lastEventId=7"))
    assert.equal(12, from(nil, "last_event_id=5&last_event_id=12&last_event_id=007"))
    assert.equal(10, from({ "9", "10", "8" }, ""))
    assert.equal(10, from("9, 10,8", ""), "one line that a proxy made of three")
    assert.same({ "after", 3, "03" }, { event.resume("earliest", "last_event_id=03") })
    assert.same({ "after", 0, "0" }, { event.resume("0", "last_event_id=earliest") })
    assert.same({ "after", 7, "7" }, { event.resume("", "last_event_id=&lastEventId=7") })
    assert.same({ "earliest", 0, "earliest" }, { event.resume("", "last_event_id=earliest&lastEventId=earliest") })
  end)

  it("says that the stream which told it had come to its end", function()
    assert.same({ "after", 7, "7-end", nil, true }, { event.resume_text "7-end" })
    assert.same({ "after", 7, "7", nil, nil }, { event.resume_text "7" })
    for _, text in ipairs { "-end", "7-End", "7-end-end", "7 -end", "x-end", "earliest-end" } do
      assert.equal("unknown", (event.resume_text(text)), text)
    end
    assert.same({ "after", 7, "7-end", nil, true }, { event.resume("7", "last_event_id=7-end&lastEventId=6") })
    assert.same({ "after", 8, "8", nil, nil }, { event.resume("7-end", "last_event_id=8") })
  end)

  it("names the first that is none of ours, whatever else there is", function()
    assert.same({ "unknown", 0, "x", "x" }, { event.resume("x", "") })
    assert.same({ "unknown", 0, "x", "x" }, { event.resume("x", "lastEventId=y") })
    assert.same({ "after", 6, "6", "x" }, { event.resume("x", "last_event_id=6&lastEventId=y") })
    assert.same({ "after", 6, "6", "y" }, { event.resume("6", "last_event_id=5&lastEventId=y") })
    assert.same({ "earliest", 0, "earliest", "y" }, { event.resume("y", "last_event_id=earliest") })
    assert.same({ "after", 6, "6", "9007199254740992" }, { event.resume("6", "lastEventId=9007199254740992") })
  end)

  it("is one foreign id where not all of a list are positions", function()
    assert.same({ "unknown", 0, "5, x", "5, x" }, { event.resume("5, x", "") })
    assert.same({ "unknown", 0, "urn:a,b", "urn:a,b" }, { event.resume("urn:a,b", "") })
    assert.same({ "unknown", 0, "5,6", "5,6" }, { event.resume(nil, "last_event_id=5,6") }, "a query is no list")
    assert.same({ "after", 5, "5" }, { event.resume("5,", "") })
    assert.same({ "now", 0, "" }, { event.resume(",", "") })
  end)

  it("takes an empty value for no value", function()
    assert.equal("now", (event.resume("", "")))
    assert.equal("now", (event.resume("", "last_event_id=&lastEventId=")))
    local kind, id = event.resume("", "last_event_id=&lastEventId=9")
    assert.same({ "after", 9 }, { kind, id })
  end)

  it("is misspelt where a name is nearly right", function()
    for _, name in ipairs { "last-event-id", "LAST_EVENT_ID", "lasteventid", "LastEventId", "last_eventid",
      "last_event_i", "last_evnt_id", "lastEventIds", "Last-Event-Id", "_last_event_id_" } do
      assert.same({ name, "last_event_id" }, { event.resume_misspelt("topic=a&" .. name .. "=5") })
    end
    for _, name in ipairs { "last_event_id", "lastEventId", "lastEventID", "Last-Event-ID", "last", "event_id", "id",
      "last_event", "last_event_at", "", ("last_event_id"):rep(20) } do
      assert.same({}, { event.resume_misspelt(name .. "=5") }, name)
    end
  end)
end)
