-- What brokers and clients of specs speak to each other, by the environment variable TIDEGATE_SPEC_TRANSPORT:
-- "h1" (HTTP/1.1, the default), "tls" (HTTP/1.1 upon TLS), "h2" (HTTP/2) or "h2tls" (HTTP/2 upon TLS). A spec file
-- names in its first line the others it runs over as well (`-- transports: tls h2`); .ci/test reads that.
--
-- With "tls" every TCP listener that support.tidegate configures gets a certificate, and whatever connects to a broker
-- (support.sockets, http, sse) uses TLS. Listeners that are Unix sockets, those that say `tls` themselves, and
-- configurations that a spec writes as a whole stay as they are.
--
-- With "h2" the clients of support.sse, and whole requests of support.http to the public listener, are streams of an
-- HTTP/2 connection each. Requests that a spec writes byte by byte are HTTP/1.1 all the same.
local files = require "support.files"
local tls = require "support.tls"

local M = {}

M.name = os.getenv "TIDEGATE_SPEC_TRANSPORT" or "h1"
assert(({ h1 = true, tls = true, h2 = true, h2tls = true })[M.name],
  "TIDEGATE_SPEC_TRANSPORT: expected h1, tls, h2 or h2tls")
M.tls = M.name == "tls" or M.name == "h2tls"
M.h2 = M.name == "h2" or M.name == "h2tls"

local texts -- those of a certificate for this process, made when a broker first needs it

local function certificate()
  if not texts then
    local ca = tls.authority()
    local cert = ca:issue { names = { "localhost" } }
    texts = { ["transport-ca.pem"] = files.read(ca.cert), ["transport-cert.pem"] = files.read(cert.cert),
      ["transport-key.pem"] = files.read(cert.key) }
    ca:remove()
  end
  return texts
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
