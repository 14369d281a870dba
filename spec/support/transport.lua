-- What brokers and clients of specs speak to each other, by the environment variable TIDEGATE_SPEC_TRANSPORT:
-- "h1" (HTTP/1.1, the default) or "tls" (HTTP/1.1 upon TLS). A spec file names in its first line the others it runs
-- over as well (`-- transports: tls`); .ci/test reads that.
--
-- With "tls" every TCP listener that support.tidegate configures gets a certificate, and whatever connects to a broker
-- (support.sockets, http, sse) uses TLS. Listeners that are Unix sockets, those that say `tls` themselves, and
-- configurations that a spec writes as a whole stay as they are.
local tls = require "support.tls"

local M = {}

M.name = os.getenv "TIDEGATE_SPEC_TRANSPORT" or "h1"
assert(M.name == "h1" or M.name == "tls", "TIDEGATE_SPEC_TRANSPORT: expected h1 or tls")
M.tls = M.name == "tls"

local files -- the texts of a certificate for this process, made when a broker first needs it

local function read(path)
  local f = assert(io.open(path, "rb"))
  local text = f:read "a"
  f:close()
  return text
end

local function certificate()
  if not files then
    local ca = tls.authority()
    local cert = ca:issue { names = { "localhost" } }
    files = { ["transport-ca.pem"] = read(ca.cert), ["transport-cert.pem"] = read(cert.cert),
      ["transport-key.pem"] = read(cert.key) }
    ca:remove()
  end
  return files
end

-- What a listener's configuration becomes: a text, or a table with an address.
function M.listener(entry)
  local address = type(entry) == "table" and entry.address or entry
  if not M.tls or type(address) ~= "string" or address:find "^unix:" or type(entry) == "table" and entry.tls then
    return entry
  end
  local out = { address = address, tls = { { cert = "transport-cert.pem", key = "transport-key.pem" } } }
  for k, v in pairs(type(entry) == "table" and entry or {}) do
    out[k] = v
  end
  return out
end

-- Writes the files that listeners name into the directory of a broker, and gives it what its clients need.
function M.equip(broker)
  if not M.tls then
    return
  end
  for name, text in pairs(certificate()) do
    broker:write_file(name, text)
  end
  broker.transport_tls = { ca = broker.dir .. "/transport-ca.pem", name = "localhost" }
  broker.tls = broker.transport_tls
end

return M
