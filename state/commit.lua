-- One commit of one unit (shard, item shard, lane, control): all of it, or nothing; nothing while it is held.
-- KEYS[1]: the unit's meta hash; every other key in the request carries the same hash tag.
-- ARGV, in groups that begin with how many entries follow: epoch; the commit it follows or nothing; offsets
-- {topic, previous, next}; purged indexes {key, value prefix, JSON of more members, list key, field, entry}; values
-- {key, ttl_ms, value}; index members {key, JSON of members, ttl_ms}; hash fields {key, field, value}; dropped
-- fields {key, field}; dropped keys {key}; meta fields {field, value}; outbox entries {entry}; then outbox key,
-- entries sent, feed key, whether the feed is emptied, feed cap, feed entry.
local at = 0
local function take()
    at = at + 1
    return ARGV[at]
end
local function group(width, act)
    local count = tonumber(take())
    for _ = 1, count do
        act(ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4], ARGV[at + 5], ARGV[at + 6])
        at = at + width
    end
end

if redis.call('EXISTS', (string.gsub(KEYS[1], 'meta$', 'hold'))) == 1 then
    return {'held'}
end
local epoch, follows, refusal = take(), take(), nil
local held = redis.call('HGET', KEYS[1], 'epoch')
if held ~= epoch then
    return {'fenced', held or ''}
end
-- Offsets alone would let a change through that read no topic, on a store that went back to an older copy.
local last = redis.call('HGET', KEYS[1], 'commit') or '0'
if follows ~= '' and follows ~= last then
    return {'commit', last}
end
local first_offset = at
group(3, function(topic, previous)
    local stored = redis.call('HGET', KEYS[1], 'o:' .. topic) or ''
    if stored ~= previous then
        refusal = {'offset', topic, stored}
    end
end)
if refusal then
    return refusal
end

local commit = redis.call('HINCRBY', KEYS[1], 'commit', 1)
at = first_offset
group(3, function(topic, _, following)
    redis.call('HSET', KEYS[1], 'o:' .. topic, following)
end)
group(6, function(index, prefix, more, list, field, entry)
    local gone = 0
    for _, members in ipairs({redis.call('ZRANGE', index, 0, -1), cjson.decode(more)}) do
        for _, member in ipairs(members) do
            gone = gone + redis.call('DEL', prefix .. member)
        end
    end
    redis.call('DEL', index)
    if list ~= '' then
        local found = ',"commit":' .. commit .. ',"decisions":' .. gone .. '}'
        redis.call('HSET', list, field, string.sub(entry, 1, -2) .. found)
    end
end)
group(3, function(key, ttl_ms, value)
    if ttl_ms == '0' then
        redis.call('SET', key, value)
    else
        redis.call('SET', key, value, 'PX', ttl_ms)
    end
end)
-- By the store's own clock, as it is what collects the values.
local clock = redis.call('TIME')
local now_ms = clock[1] * 1000 + math.floor(clock[2] / 1000)
group(3, function(index, members, ttl_ms)
    local scored = {}
    for _, member in ipairs(cjson.decode(members)) do
        scored[#scored + 1] = string.format('%.0f', now_ms)
        scored[#scored + 1] = member
    end
    redis.call('ZADD', index, unpack(scored))
    redis.call('ZREMRANGEBYSCORE', index, '-inf', string.format('(%.0f', now_ms - ttl_ms))
    redis.call('PEXPIRE', index, ttl_ms)
end)
group(3, function(key, field, value) redis.call('HSET', key, field, value) end)
group(2, function(key, field) redis.call('HDEL', key, field) end)
group(1, function(key) redis.call('DEL', key) end)
group(2, function(field, value) redis.call('HSET', KEYS[1], field, value) end)
local entries = {}
group(1, function(entry) entries[#entries + 1] = entry end)
local outbox, sent, feed, emptied, cap, change = take(), tonumber(take()), take(), take(), take(), take()
if sent > 0 then
    redis.call('LTRIM', outbox, sent, -1)
end
for _, entry in ipairs(entries) do
    redis.call('RPUSH', outbox, entry)
end
if emptied == '1' then
    redis.call('DEL', feed)
end
local claim = redis.call('HMGET', KEYS[1], 'before', 'claimed_at')
redis.call('XADD', feed, 'MAXLEN', '~', cap, commit .. '-0', 'e', epoch, 'p', claim[1], 'n', claim[2], 'c', change)
return {'ok', tostring(commit)}
