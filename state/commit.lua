-- One commit of one unit (shard, item shard, lane, control): all of it, or nothing.
-- KEYS[1]: the unit's meta hash; every other key in the request carries the same hash tag.
-- ARGV, in groups that begin with how many entries follow: epoch; the commit it follows or nothing; offsets
-- {topic, previous, next}; values {key, ttl_ms, value}; hash fields {key, field, value}; dropped fields {key, field};
-- dropped keys {key}; meta fields {field, value}; outbox entries {entry}; then outbox key, entries sent, feed key,
-- feed cap, feed entry.
local at = 0
local function take()
    at = at + 1
    return ARGV[at]
end
local function group(width, act)
    local count = tonumber(take())
    for _ = 1, count do
        act(ARGV[at + 1], ARGV[at + 2], ARGV[at + 3])
        at = at + width
    end
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
group(3, function(key, ttl_ms, value)
    if ttl_ms == '0' then
        redis.call('SET', key, value)
    else
        redis.call('SET', key, value, 'PX', ttl_ms)
    end
end)
group(3, function(key, field, value) redis.call('HSET', key, field, value) end)
group(2, function(key, field) redis.call('HDEL', key, field) end)
group(1, function(key) redis.call('DEL', key) end)
group(2, function(field, value) redis.call('HSET', KEYS[1], field, value) end)
local entries = {}
group(1, function(entry) entries[#entries + 1] = entry end)
local outbox, sent, feed, cap, change = take(), tonumber(take()), take(), take(), take()
if sent > 0 then
    redis.call('LTRIM', outbox, sent, -1)
end
for _, entry in ipairs(entries) do
    redis.call('RPUSH', outbox, entry)
end
local claim = redis.call('HMGET', KEYS[1], 'before', 'claimed_at')
redis.call('XADD', feed, 'MAXLEN', '~', cap, commit .. '-0', 'e', epoch, 'p', claim[1], 'n', claim[2], 'c', change)
return {'ok', tostring(commit)}
