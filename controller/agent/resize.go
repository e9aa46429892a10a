package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/go-logr/logr"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/rules"
)

// How often the size of the member is asked for: while a growth is under way, and else.
const (
	growingInterval = 2 * time.Second
	idleInterval    = 15 * time.Second
)

// resize asks for another size once. A request whose reply was lost, or that was under way when the program ended, is made again with the
// same name: the controller's endpoint, which tells the largest size, answers a name that it has seen without doing anything. Another
// endpoint is asked again only when the size shows that the request did not arrive.
func (a *agent) resize(ctx context.Context, log logr.Logger, action *rules.Action, instance string, known rules.Size) rules.Answer {
	a.asking.Lock()
	defer a.asking.Unlock()
	answer := rules.Answer{ID: action.ID, Outcome: rules.Unreachable}
	earlier, again := a.kept.asked(action.ID)
	timeout := beginTimeout
	if again {
		timeout = callTimeout
	}
	bounded, cancel := context.WithTimeout(ctx, timeout)
	before, err := a.Operator.Status(bounded)
	cancel()
	switch {
	case err != nil && again:
		log.Info("Nobody answers; it is asked again later", "error", err.Error())
		return answer
	case err != nil:
		// An endpoint that does not tell the size may be asked all the same.
		before = known
	case again && before.Max == 0 && arrived(action.Verb, earlier, before):
		log.Info("Granted", "answer", "it is not known, and the desired size shows that the request arrived", "wants", before.Wants)
		a.kept.settle(action.ID)
		answer.Outcome, answer.Size = rules.Granted, &before
		poke(a.pokes)
		return answer
	}
	if before.Wants > 0 {
		a.kept.ask(action.ID, before)
	}
	return a.ask(ctx, log, action, instance, answer)
}

// ask makes a request.
func (a *agent) ask(ctx context.Context, log logr.Logger, action *rules.Action, instance string, answer rules.Answer) rules.Answer {
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	reply, err := a.Operator.Resize(call, Resize{Verb: action.Verb, Nodes: action.Nodes, ID: requestID(instance, action.ID)})
	switch {
	case ctx.Err() != nil:
		return answer
	case err != nil:
		log.Info("Nobody answers; it is asked again later", "error", err.Error())
		return answer
	case reply.Granted:
		answer.Outcome = rules.Granted
	default:
		answer.Outcome = rules.Denied
	}
	a.kept.settle(action.ID)
	log.Info(map[bool]string{true: "Granted", false: "Denied"}[reply.Granted], "answer", reply.Reason)
	answer.Size = reply.Size
	poke(a.pokes)
	return answer
}

// requestID is the name of a request of an instance. That of the instance may be long.
func requestID(instance, action string) string {
	sum := sha256.Sum256([]byte(instance))
	return hex.EncodeToString(sum[:6]) + "-" + action
}

// arrived says of a request that its effect shows.
func arrived(verb rules.Verb, before, after rules.Size) bool {
	if verb == rules.Grow {
		return after.Wants > before.Wants
	}
	return after.Wants < before.Wants
}

// watchSize asks for the size of the member again and again.
func (a *agent) watchSize(ctx context.Context) {
	reachable := true
	for ctx.Err() == nil {
		interval := idleInterval
		if a.growing.Load() {
			interval = growingInterval
		}
		timer := a.Clock.NewTimer(interval)
		select {
		case <-timer.C():
		case <-a.pokes:
			timer.Stop()
			// What was just answered is known; what came of it shows a little later.
			if !wait(ctx, a.Clock, growingInterval) {
				return
			}
		case <-ctx.Done():
			timer.Stop()
			return
		}
		call, cancel := context.WithTimeout(ctx, callTimeout)
		size, err := a.Operator.Status(call)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if reachable {
				a.Log.Info("The size of the member cannot be asked for", "error", err.Error())
			}
			reachable = false
			continue
		case !reachable:
			a.Log.Info("The size of the member can be asked for again")
			reachable = true
		}
		a.tell(ctx, size)
	}
}
