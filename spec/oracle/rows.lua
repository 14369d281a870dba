-- Payloads of the oracle's workload: each is unique, names its writer, and ends with padding. The large ones end
-- with the same block, so that a journal can note them in a few bytes and still tell that every byte arrived.
local M = {}

M.BIG_BYTES = 1000 * 1000 -- below limits.event_bytes (1 MiB), with the head of the payload

local LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

local block

-- The same bytes in every process, and of a kind that no store can compress.
function M.block()
  if not block then
    local list, state = {}, 88172645463325252
    for i = 1, M.BIG_BYTES do
      state = state ~ (state << 13)
      state = state ~ (state >> 7)
      state = state ~ (state << 17)
      local at = (state >> 20 & 63) + 1
      list[i] = LETTERS:sub(at, at)
    end
    block = table.concat(list)
  end
  return block
end

-- What stands in ledgers for the large payload that begins with `head`.
function M.big_name(head)
  return head .. "#" .. M.BIG_BYTES
end

-- What stands in journals for a payload as it arrived.
function M.name(data)
  if #data < 10000 then
    return data
  end
  local head = data:sub(1, #data - M.BIG_BYTES)
  if #head > 0 and #head < 100 and data:sub(#head + 1) == M.block() then
    return M.big_name(head)
  end
  return ("damaged, %d bytes: %s"):format(#data, data:sub(1, 60))
end

return M
