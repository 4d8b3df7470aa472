// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/rueidis"
)

// waitFor is how long a write waits for replicas.
const waitFor = 3 * time.Second

// edit is a write of one key.
type edit struct {
	conditional bool // only if the value is still old, or absent
	present     bool // old is a value
	old         string

	remove bool
	value  string
	ttl    int64 // in milliseconds; 0 for none
}

// outcome is what became of an edit. One that was not done found another value,
// or nil where there was none.
type outcome struct {
	done  bool
	found []byte
}

// editScript does an edit as one step, and publishes it where that is wanted:
//
//	KEYS  1 key
//	ARGV  1 any, is or absent  2 value that it must be  3 set or remove  4 value
//	      5 ttl, or 0  6 channel, or ""  7 message
const editScript = `
local old = false
if ARGV[1] ~= 'any' then
	old = redis.call('GET', KEYS[1])
end
if (ARGV[1] == 'is' and old ~= ARGV[2]) or (ARGV[1] == 'absent' and old) then
	return {old}
end
if ARGV[3] == 'remove' then
	redis.call('DEL', KEYS[1])
elseif ARGV[5] == '0' then
	redis.call('SET', KEYS[1], ARGV[4])
else
	redis.call('SET', KEYS[1], ARGV[4], 'PX', ARGV[5])
end
if ARGV[6] ~= '' then
	redis.call('PUBLISH', ARGV[6], ARGV[7])
end
return {}`

// script is a script in the form for Lua.Exec, and its text.
type script struct {
	*rueidis.Lua
	text string
}

func newScript(text string) script { return script{rueidis.NewLuaScript(text), text} }

var editing = newScript(editScript)

// write does an edit. An error says nothing about whether it was done: it is
// never tried again, because somebody may have seen it.
func (c *client) write(ctx context.Context, key string, e edit) (outcome, error) {
	redisKey := c.keys.encode(key)
	if e.conditional || c.pubsub {
		result, err := c.run(ctx, editing, redisKey, c.arguments(key, e))
		if err != nil {
			return outcome{}, c.failure(ctx, "writing to", err)
		}
		return outcomeOf(result)
	}
	_, err := c.do(ctx, redisKey, func(b rueidis.Builder) rueidis.Completed {
		switch set := b.Set; {
		case e.remove:
			return b.Del().Key(redisKey).Build()
		case e.ttl > 0:
			return set().Key(redisKey).Value(e.value).PxMilliseconds(e.ttl).Build()
		default:
			return set().Key(redisKey).Value(e.value).Build()
		}
	})
	if err != nil {
		return outcome{}, c.failure(ctx, "writing to", err)
	}
	return outcome{done: true}, nil
}

// arguments returns an edit as editScript takes it.
func (c *client) arguments(key string, e edit) []string {
	condition, action, channel, message := "any", "set", "", ""
	if e.conditional {
		if condition = "absent"; e.present {
			condition = "is"
		}
	}
	if e.remove {
		action = "remove"
	}
	if c.pubsub {
		channel, message = c.keys.channel(), c.node+" "+key
	}
	return []string{condition, e.old, action, e.value, strconv.FormatInt(e.ttl, 10), channel, message}
}

// outcomeOf reads what editScript returned.
func outcomeOf(result rueidis.RedisResult) (outcome, error) {
	values, err := result.ToArray()
	if err != nil {
		return outcome{}, fmt.Errorf("writing to redis: %w", err)
	}
	if len(values) == 0 {
		return outcome{done: true}, nil
	}
	if values[0].IsNil() {
		return outcome{}, nil
	}
	found, err := values[0].AsBytes()
	if err != nil {
		return outcome{}, fmt.Errorf("writing to redis: %w", err)
	}
	if found == nil {
		found = []byte{}
	}
	return outcome{found: found}, nil
}

// run runs a script that writes redisKey.
func (c *client) run(ctx context.Context, s script, redisKey string, arguments []string) (rueidis.RedisResult, error) {
	if c.replicas == 0 {
		result := c.exec(ctx, s, redisKey, arguments)
		return result, result.Error()
	}
	return c.do(ctx, redisKey, func(b rueidis.Builder) rueidis.Completed {
		return b.Eval().Script(s.text).Numkeys(1).Key(redisKey).Arg(arguments...).Build()
	})
}

// exec is run without waiting for replicas.
func (c *client) exec(ctx context.Context, s script, redisKey string, arguments []string) rueidis.RedisResult {
	return c.send(ctx, func() rueidis.RedisResult {
		return s.Exec(ctx, c.redis, []string{redisKey}, arguments)
	})
}

// do does a command that writes redisKey, and waits for replicas. build may be
// called more than once. The error is nil, rueidis.Nil included, only if enough
// replicas have what was written.
func (c *client) do(ctx context.Context, redisKey string, build func(rueidis.Builder) rueidis.Completed) (rueidis.RedisResult, error) {
	if c.replicas == 0 {
		result := c.send(ctx, func() rueidis.RedisResult { return c.redis.Do(ctx, build(c.redis.B())) })
		return result, result.Error()
	}
	type answer struct {
		result rueidis.RedisResult
		err    error
	}
	a, err := await(ctx, func() answer {
		result, err := c.replicate(ctx, redisKey, build)
		return answer{result, err}
	})
	if err != nil {
		return a.result, err
	}
	return a.result, a.err
}

// replicate is do with replicas to wait for.
func (c *client) replicate(ctx context.Context, redisKey string, build func(rueidis.Builder) rueidis.Completed) (rueidis.RedisResult, error) {
	within := waitFor
	if deadline, ok := ctx.Deadline(); ok {
		within = max(min(within, time.Until(deadline)), time.Millisecond)
	}
	// WAIT is about what its own connection wrote, and has that for itself: a
	// server that hangs is noticed by this deadline only.
	ctx, cancel := context.WithTimeout(ctx, within+answerTimeout)
	defer cancel()
	for begin := time.Now(); ; {
		node, err := c.writer(ctx, redisKey)
		if err != nil {
			return rueidis.RedisResult{}, err
		}
		results := node.DoMulti(ctx, build(node.B()),
			node.B().Wait().Numreplicas(int64(c.replicas)).Timeout(within.Milliseconds()).Build())
		err = results[0].Error()
		if c.unsent(ctx, begin, err) {
			continue
		}
		if moved(err) {
			c.topology.Store(nil)
			if err := c.sleep(ctx, movedPause); err != nil {
				return rueidis.RedisResult{}, err
			}
			continue
		}
		if err != nil {
			return results[0], err
		}
		have, err := results[1].AsInt64()
		if err != nil {
			return results[0], err
		}
		if have < int64(c.replicas) {
			return results[0], fmt.Errorf("%d of %d replicas have it after %v", have, c.replicas, within.Round(time.Millisecond))
		}
		return results[0], nil
	}
}

// moved reports whether a node of a cluster refused a command because another
// one is in charge of the key.
func moved(err error) bool {
	refusal, ok := rueidis.IsRedisErr(err)
	if !ok {
		return false
	}
	_, isMoved := refusal.IsMoved()
	_, isAsk := refusal.IsAsk()
	return isMoved || isAsk || refusal.IsTryAgain() || refusal.IsClusterDown()
}

// errNoNode says that a cluster has no node in charge of some keys.
var errNoNode = errors.New("the cluster has keys that no node is in charge of")
