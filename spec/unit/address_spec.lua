local address = require "native.address"

describe("address_parse", function()
  it("takes addresses to listen on", function()
    assert.same({ host = "127.0.0.1", port = 8080, family = 4, is_local = true }, address.listen "127.0.0.1:8080")
    assert.same({ host = "0.0.0.0", port = 0, family = 4, is_local = false }, address.listen "0.0.0.0:0")
    assert.same({ host = "::1", port = 65535, family = 6, is_local = true }, address.listen "[::1]:65535")
    assert.same({ host = "::", port = 80, family = 6, is_local = false }, address.listen "[::]:80")
    assert.same({ path = "/run/a.sock", is_local = true }, address.listen "unix:/run/a.sock")
    assert.same({ name = "public", is_local = false }, address.listen "systemd:public")
    assert.equal(107, #address.listen("unix:/" .. ("x"):rep(106)).path)
  end)

  it("knows what other machines can reach", function()
    for text, is_local in pairs { ["127.255.0.1:1"] = true, ["128.0.0.1:1"] = false, ["[::ffff:127.0.0.1]:1"] = true,
      ["[::ffff:10.0.0.1]:1"] = false, ["[::2]:1"] = false, ["10.0.0.1:1"] = false } do
      assert.equal(is_local, address.listen(text).is_local, text)
    end
  end)

  it("refuses the rest, quoting it and saying what was expected", function()
    for text, say in pairs {
      [""] = "expected", ["8080"] = "IPV4:PORT", [":8080"] = "0.0.0.0:PORT", ["*:8080"] = "numeric",
      ["localhost:8080"] = "127.0.0.1:8080", ["127.0.0.1"] = "IPV4:PORT", ["127.0.0.1:"] = "0 to 65535",
      ["127.0.0.1:65536"] = "0 to 65535", ["127.0.0.1:-1"] = "0 to 65535", ["127.0.0.1:http"] = "0 to 65535",
      ["127.0.0.1:80 "] = "0 to 65535", ["127.0.0.1:+80"] = "0 to 65535",
        ["127.0.0.1:99999999999999999999"] = "0 to 65535",
      ["127.1:80"] = "numeric", ["127.0.0.256:80"] = "numeric", [" 127.0.0.1:80"] = "numeric", ["::1:80"] = "numeric",
      ["[::1]"] = "", ["[::1]80"] = "", ["[127.0.0.1]:80"] = "numeric", ["[::g]:80"] = "numeric", ["[]:80"] = "numeric",
      ["[fe80::1%nosuchif]:80"] = "numeric", ["unix:"] = "absolute path", ["unix:a.sock"] = "absolute path",
      ["systemd:"] = "FileDescriptorName", ["systemd:a:b"] = "without a colon",
      ["systemd:" .. ("x"):rep(108)] = "at most 107 bytes",
      ["unix:/" .. ("x"):rep(107)] = "107 bytes", ["http://127.0.0.1:80"] = "numeric",
        [("1"):rep(100) .. ":80"] = "IPV4:PORT",
    } do
      local ok, message = address.listen(text)
      assert.is_nil(ok, text)
      assert.truthy(message:find('"' .. text .. '"', 1, true), message)
      assert.truthy(message:find(say, 1, true), message)
    end
  end)
end)

describe("peer_address", function()
  it("is read and written the same", function()
    for text, want in pairs {
      ["192.0.2.1"] = "192.0.2.1", ["2001:db8::1"] = "2001:db8::1", ["2001:DB8:0:0::1"] = "2001:db8::1",
        ["::1"] = "::1",
      ["::ffff:192.0.2.1"] = "192.0.2.1", ["::ffff:c000:201"] = "192.0.2.1", ["unix"] = "unix", ["0.0.0.0"] = "0.0.0.0",
      ["::fffe:1.2.3.4"] = "::fffe:102:304",
    } do
      assert.equal(want, address.peer(text))
    end
  end)

  it("is nothing else", function()
    for _, text in ipairs { "", "::", "0::0", "a", "1.2.3", "1.2.3.4.5", "01.2.3.4", "1.2.3.4 ", "1.2.3.4:80",
      "[::1]", "::1%lo",
      "fe80::1%", "1.2.3.4\0", "::1\0", "unix:", ":::", "1::2::3", ("1"):rep(70), "12345::" } do
      assert.is_nil(address.peer(text), text)
    end
  end)

  it("tells a Unix peer from one that is gone already", function()
    assert.same({ "0.0.0.0", "unix" }, { address.unconnected() })
  end)
end)

describe("network", function()
  it("holds the addresses that share its prefix", function()
    for _, c in ipairs {
      { "10.0.0.0/8", "10.255.1.2", true }, { "10.0.0.0/8", "11.0.0.0", false }, { "10.0.0.0/8",
        "::ffff:10.1.1.1", true },
      { "192.0.2.128/25", "192.0.2.128", true }, { "192.0.2.128/25", "192.0.2.127", false },
      { "192.0.2.1", "192.0.2.1", true }, { "192.0.2.1", "192.0.2.2", false }, { "192.0.2.1/32", "192.0.2.1", true },
      { "::1", "::1", true }, { "::1/128", "::2", false }, { "fd00::/8", "fdff::1", true }, { "fd00::/8",
        "fe00::1", false },
      { "2001:db8::/33", "2001:db8:7fff::", true }, { "2001:db8::/33", "2001:db8:8000::", false },
      { "0.0.0.0/0", "1.2.3.4", true }, { "0.0.0.0/0", "2001:db8::1", false }, { "0.0.0.0/0", "unix", false },
      { "::/0", "2001:db8::1", true }, { "::/0", "1.2.3.4", false }, { "::/0", "unix", false },
      { "::ffff:10.0.0.0/104", "10.1.2.3", true }, { "::ffff:10.0.0.0/104", "11.1.2.3", false },
      { "unix", "unix", true }, { "unix", "1.2.3.4", false }, { "unix", "::1", false },
    } do
      assert.equal(c[3], address.contains(c[1], c[2]), c[1] .. " " .. c[2])
    end
  end)

  it("is refused with a reason", function()
    for text, say in pairs {
      [""] = "expected an address", ["a"] = "expected an address", ["10.0.0.0/"] = "0 to 32",
        ["10.0.0.0/33"] = "0 to 32",
      ["10.0.0.0/-1"] = "0 to 32", ["10.0.0.0/8/8"] = "0 to 32", ["::/129"] = "0 to 128",
        ["/8"] = "expected an address",
      ["10.0.0.1/8"] = "10.0.0.0/8", ["fd00::1/8"] = "fd00::/8", ["::1/0"] = "::/0", ["unix:"] = "expected an address",
      ["10.0.0.0/0x8"] = "0 to 32", ["10/8"] = "expected an address", ["localhost"] = "expected an address",
    } do
      local ok, message = pcall(address.contains, text, "1.2.3.4")
      assert.is_false(ok, text)
      assert.truthy(message:find('"' .. text .. '"', 1, true), message)
      assert.truthy(message:find(say, 1, true), message)
    end
  end)
end)

describe("client_address", function()
  local function client(peer, trusted, ...)
    local fields = { { "Host", "a" } }
    for _, line in ipairs { ... } do
      fields[#fields + 1] = { "x-forwarded-for", line }
    end
    return address.client(peer, fields, trusted)
  end
  local proxies = { "10.0.0.0/8", "::1", "unix" }

  it("is the peer unless the peer is a trusted proxy", function()
    assert.equal("192.0.2.1", client("192.0.2.1", proxies, "6.6.6.6"))
    assert.equal("10.0.0.1", client("10.0.0.1", {}, "6.6.6.6"))
    assert.equal("10.0.0.1", client("10.0.0.1", proxies))
    assert.equal("unix", client("unix", { "10.0.0.0/8" }, "6.6.6.6"))
  end)

  it("is the rightmost hop that is not trusted", function()
    assert.equal("192.0.2.1", client("10.0.0.1", proxies, "192.0.2.1"))
    assert.equal("192.0.2.1", client("10.0.0.1", proxies, "6.6.6.6, 192.0.2.1"))
    assert.equal("192.0.2.1", client("10.0.0.1", proxies, "6.6.6.6,192.0.2.1 ,10.9.9.9,\t::1"))
    assert.equal("192.0.2.1", client("unix", proxies, "192.0.2.1"))
    assert.equal("192.0.2.1", client("::1", proxies, "::ffff:192.0.2.1"))
    assert.equal("2001:db8::1", client("::1", proxies, "2001:db8::1"))
  end)

  it("is the leftmost hop where all are trusted", function()
    assert.equal("10.1.1.1", client("10.0.0.1", proxies, "10.1.1.1, 10.2.2.2"))
  end)

  it("reads every line, the last first: a client may have sent the others", function()
    assert.equal("192.0.2.1", client("10.0.0.1", proxies, "6.6.6.6", "192.0.2.1"))
    assert.equal("192.0.2.1", client("10.0.0.1", proxies, "6.6.6.6, 192.0.2.1", "10.2.2.2"))
    assert.equal("10.2.2.2", client("10.0.0.1", proxies, "junk", "10.2.2.2"))
  end)

  it("takes the forms proxies send", function()
    for hop, want in pairs { ["192.0.2.1:4711"] = "192.0.2.1", ["[2001:db8::1]"] = "2001:db8::1",
      ["[2001:db8::1]:443"] = "2001:db8::1", [" 192.0.2.1\t"] = "192.0.2.1", ["::ffff:192.0.2.1"] = "192.0.2.1" } do
      assert.equal(want, client("10.0.0.1", proxies, hop))
    end
    assert.equal("192.0.2.1", client("10.0.0.1", proxies, "192.0.2.1, unix:"))
    assert.equal("192.0.2.1", client("10.0.0.1", proxies, "192.0.2.1, unix"))
  end)

  it("stops at a malformed hop: the nearest trustworthy address wins", function()
    for _, hop in ipairs { "", "unknown", "a.example", "192.0.2.1:", "192.0.2.1:x", "192.0.2.1:99999",
      "[192.0.2.1]", "[::1", "[]", "[",
      "]", "::", "fe80::1%eth0", "1.2.3.4 5.6.7.8", '"192.0.2.1"', ":80", "192.0.2.1:80:80", "[2001:db8::1]443",
        "\xff" } do
      assert.equal("10.0.0.1", client("10.0.0.1", proxies, hop), hop)
      assert.equal("10.0.0.1", client("10.0.0.1", proxies, "6.6.6.6, " .. hop), hop)
      assert.equal("10.2.2.2", client("10.0.0.1", proxies, "6.6.6.6, " .. hop .. ", 10.2.2.2"), hop)
    end
  end)

  it("lets nobody claim to be a Unix peer", function()
    assert.equal("10.0.0.1", client("10.0.0.1", { "10.0.0.0/8" }, "unix:"))
    assert.equal("10.0.0.1", client("10.0.0.1", { "10.0.0.0/8" }, "unix"))
    assert.equal("10.0.0.1", client("10.0.0.1", { "10.0.0.0/8", "::/0" }, "::"))
  end)
end)

describe("address_limit", function()
  it("counts each address for itself and forgets the idle ones", function()
    local a, b = "192.0.2.1", "2001:db8::1"
    assert.same({ true, true, false, true, 2, true, true, false, true, true, 1, true, 0, true, 1 }, address.limits {
      { "take", a, 2 }, { "take", a, 2 }, { "take", a, 2 }, { "take", b, 2 }, { "count" },
      { "release", a }, { "take", a, 2 }, { "take", a, 2 }, { "release", a }, { "release", a }, { "count" },
      { "release", b }, { "count" }, { "take", b, 1 }, { "count" },
    })
  end)

  it("takes an IPv6 network of 64 bits for one, and each IPv4 address", function()
    assert.same({ true, true, false, true, true, 2, true }, address.limits {
      { "take", "2001:db8::1", 2 }, { "take", "2001:db8::ffff:ffff:ffff:ffff", 2 }, { "take", "2001:db8::2", 2 },
      { "take", "2001:db8:0:1::1", 2 }, { "release", "2001:db8::3" }, { "count" }, { "release", "2001:db8::1" },
    })
    assert.same({ true, true, 2 }, address.limits {
      { "take", "192.0.2.1", 1 }, { "take", "192.0.2.2", 1 }, { "count" },
    })
  end)

  it("takes 0 for no cap, and still counts", function()
    local script = {}
    for i = 1, 100 do
      script[i] = { "take", "unix", 0 }
    end
    script[101] = { "take", "unix", 100 }
    script[102] = { "take", "unix", 101 }
    local answers = address.limits(script)
    assert.same({ true, false, true }, { answers[100], answers[101], answers[102] })
  end)

  it("holds thousands of addresses", function()
    local script = {}
    for round, op in ipairs { "take", "take", "release" } do
      for i = 0, 4999 do
        script[#script + 1] = { op, ("10.0.%d.%d"):format(i // 256, i % 256), round }
      end
      script[#script + 1] = { "count" }
    end
    for i = 0, 4999 do
      script[#script + 1] = { "release", ("10.0.%d.%d"):format(i // 256, i % 256) }
    end
    script[#script + 1] = { "count" }
    local answers = address.limits(script)
    assert.same({ 5000, 5000, 5000, 0 }, { answers[5001], answers[10002], answers[15003], answers[#answers] })
  end)
end)

describe("address_rate", function()
  -- { { address, times, at ms } } -> how many of each were allowed, addresses remembered
  local function rates(per_s, burst, most, script)
    local list, allowed, at = {}, {}, 0
    for _, step in ipairs(script) do
      for _ = 1, step[2] do list[#list + 1] = { step[1], step[3] } end
    end
    local answers, remembered = address.rates(per_s, burst, most, list)
    for i, step in ipairs(script) do
      allowed[i] = 0
      for _ = 1, step[2] do
        at = at + 1
        allowed[i] = allowed[i] + (answers[at] and 1 or 0)
      end
    end
    return allowed, remembered
  end

  it("gives each address its burst, and then its rate", function()
    local a, b = "192.0.2.1", "192.0.2.2"
    assert.same({ 5, 5, 0, 1, 0, 4, 5 }, (rates(2, 5, 10, {
      { a, 9, 1000 }, { b, 9, 1000 }, { a, 1, 1499 }, { a, 2, 1500 }, { a, 1, 1999 }, { a, 9, 3500 }, { a, 9, 1000000 },
    })))
    assert.same({ 1, 0, 1 }, (rates(1000000, 1, 10, { { a, 1, 0 }, { a, 1, 0 }, { a, 1, 1 } })))
    assert.same({ 3, 0, 1 }, (rates(3, 3, 10, { { a, 5, 0 }, { a, 1, 333 }, { a, 2, 334 } })))
  end)

  it("takes an IPv6 network of 64 bits for one", function()
    assert.same({ 2, 0, 2 }, (rates(1, 2, 10, {
      { "2001:db8::1", 2, 0 }, { "2001:db8::ffff:ffff:ffff:ffff", 2, 0 }, { "2001:db8:0:1::1", 2, 0 },
    })))
  end)

  it("forgets addresses whose bucket is full, and remembers a bounded number", function()
    local script = {}
    for i = 1, 100 do
      script[i] = { "192.0.2." .. i, 1, 0 }
    end
    assert.equal(100, select(2, rates(1, 2, 1000, script)))
    assert.equal(7, select(2, rates(1, 2, 7, script)))
    for i = 1, 50 do
      script[100 + i] = { "192.0.2.200", 1, 1000 }
    end
    assert.equal(1, select(2, rates(1, 60, 1000, script)))
  end)

  it("forgets the address that was longest quiet, refused or not", function()
    local a, b, c = "192.0.2.1", "192.0.2.2", "192.0.2.3"
    assert.same({ 1, 1, 0, 1, 0, 1 }, (rates(1, 1, 2, {
      { a, 1, 0 }, { b, 1, 0 }, { a, 1, 0 }, { c, 1, 0 }, { a, 1, 0 }, { b, 1, 0 },
    })))
  end)
end)
