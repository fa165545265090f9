-- What wrk sends: one POST, made once; and how it tells what came of it, as one line of JSON.
-- Arguments: the file that holds the body; the mean pause of a connection before each request, in
-- milliseconds (0: none); one more header field's line, or "".

function init(args)
    local file = assert(io.open(args[1], "rb"))
    wrk.method = "POST"
    wrk.body = file:read("*a")
    wrk.headers["Content-Type"] = "application/json"
    wrk.headers["Authorization"] = "Bearer sk-bench"
    local name, value = string.match(args[3], "^(.-): (.*)$")
    if name then
        wrk.headers[name] = value
    end
    file:close()
    request_bytes = wrk.format()
    local pause = tonumber(args[2])
    if pause > 0 then
        -- wrk looks for a function of this name after init.
        function delay()
            return math.random(0, 2 * pause)
        end
    end
end

function request()
    return request_bytes
end

function done(summary, latency)
    local e = summary.errors
    io.write(string.format(
        '\n{"requests":%d,"bytes":%d,"errors":%d,"p50_us":%d,"p99_us":%d}\n', summary.requests, summary.bytes,
        e.connect + e.read + e.write + e.status + e.timeout, latency:percentile(50), latency:percentile(99)))
end
