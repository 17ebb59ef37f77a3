-- Sends the requests of the given files in turn, each with the next token:
--
--   wrk ... -- FORMAT COUNT OFFSET FILE...
--
-- FORMAT makes the n-th token; COUNT tokens from OFFSET on are used over and over.
-- Every connection goes through the same tokens, one after another.
local heads, tails, format, count, offset, next = {}, {}, "", 0, 0, 0
local made = {}

local function make(n)
  local i, token = n % #heads + 1, string.format(format, offset + n % count)
  return tails[i] and heads[i] .. token .. tails[i] or heads[i]
end

function init(args)
  format, count, offset = args[1], tonumber(args[2]), tonumber(args[3])
  for i = 4, #args do
    local file = assert(io.open(args[i], "rb"))
    local text = file:read("*a")
    file:close()
    local from, to = text:find("TOKEN", 1, true)
    heads[#heads + 1] = from and text:sub(1, from - 1) or text
    tails[#heads] = from and text:sub(to + 1)
  end
  if count <= 1000 then
    for n = 0, count * #heads - 1 do
      made[n] = make(n)
    end
  end
end

function request()
  next = next + 1
  return made[next % (count * #heads)] or make(next)
end

function done(summary, latency, _)
  local e = summary.errors
  io.write(string.format("RESULT %d %d %d %d %d %d\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), e.connect + e.read + e.write + e.timeout, e.status))
end
