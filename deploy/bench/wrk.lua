-- Every connection goes through the same tokens, one after another. The format
-- is that of tokenFormat in testdata/backend/main.go.
local requests, count, next = {}, 0, 0

function init(args)
  count = tonumber(args[1])
  for i = 0, count - 1 do
    local token = string.format("bench-token-%06d-0123456789abcdefghijklmnopqrstuvwxyzABCDEF", i)
    requests[i] = wrk.format("GET", "/fhir/Patient/1", {
      ["Authorization"] = "Bearer " .. token,
      ["Accept"] = "application/fhir+json",
      ["User-Agent"] = "bench/1.0",
    })
  end
end

function request()
  next = (next + 1) % count
  return requests[next]
end

function done(summary, latency, _)
  local e = summary.errors
  io.write(string.format("RESULT %d %d %d %d %d\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), e.connect + e.read + e.write + e.status + e.timeout))
end
