package endpoint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/ensemble"
)

// Update is the payload of the reply to RequestUpdate.
type Update struct {
	// Stored names the parts of the update that were stored, NotUsed the others.
	Stored  []string `json:"stored"`
	NotUsed []string `json:"notUsed,omitempty"`
	Reason  string   `json:"reason"`
}

// The parts of an update that are stored.
const (
	partQueue   = "queue"
	partWaiting = "waiting"
	partCounts  = "counts"
)

// maxCounts bounds the entries of waiting and of counts, maxCountName the length of a name there.
const (
	maxCounts    = 64
	maxCountName = 63
)

// parseQueue reads the state of a queue. It is what the first ensemble-operator has members send: an object with the
// counts of jobs by state under "queue", and where known the jobs that wait, by the nodes that they need, under
// "waiting", and further counts. The error names the field, its value, and what would be right.
func parseQueue(payload string) (*v1alpha1.Queue, *Update, error) {
	if len(payload) > maxPayloadBytes {
		return nil, nil, fmt.Errorf("payload has %d bytes; at most %d are read", len(payload), maxPayloadBytes)
	}
	fields := map[string]json.RawMessage{}
	decoder := json.NewDecoder(strings.NewReader(payload))
	if err := decoder.Decode(&fields); err != nil {
		return nil, nil, fmt.Errorf(`payload is not a JSON object such as {"queue": {"run": 1}}: %w`, err)
	}
	if decoder.More() {
		return nil, nil, errors.New("payload has text after its JSON object")
	}
	queue, update := &v1alpha1.Queue{}, &Update{Stored: []string{}}
	for _, part := range slices.Sorted(maps.Keys(fields)) {
		var err error
		switch part {
		case partQueue:
			err = readJobs(fields[part], &queue.Jobs)
		case partWaiting:
			queue.Waiting, err = readCounts(part, fields[part])
		case partCounts:
			queue.Counts, err = readCounts(part, fields[part])
		default:
			update.NotUsed = append(update.NotUsed, shortenText(part))
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		update.Stored = append(update.Stored, part)
	}
	if len(update.Stored) == 0 {
		return nil, nil, fmt.Errorf("payload has none of the fields %q, %q and %q", partQueue, partWaiting, partCounts)
	}
	return queue, update, nil
}

func readJobs(raw json.RawMessage, jobs *v1alpha1.QueueJobs) error {
	counts, err := readCounts(partQueue, raw)
	if err != nil {
		return err
	}
	into := map[string]*int64{
		"new": &jobs.New, "depend": &jobs.Depend, "priority": &jobs.Priority, "sched": &jobs.Sched,
		"run": &jobs.Run, "cleanup": &jobs.Cleanup, "inactive": &jobs.Inactive,
	}
	for state, count := range counts {
		if into[state] == nil {
			return fmt.Errorf(
				"payload field %q has the state %q; the states are %s", partQueue, shortenText(state),
				strings.Join(slices.Sorted(maps.Keys(into)), ", "),
			)
		}
		*into[state] = count
	}
	return nil
}

func readCounts(part string, raw json.RawMessage) (map[string]int64, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil, fmt.Errorf("payload field %q is %s; it has to be an object of counts", part, shorten(raw))
	}
	if len(fields) > maxCounts {
		return nil, fmt.Errorf("payload field %q has %d counts; at most %d are kept", part, len(fields), maxCounts)
	}
	counts := make(map[string]int64, len(fields))
	for name, value := range fields {
		text := string(value)
		var quoted string
		if json.Unmarshal(value, &quoted) == nil {
			text = strings.TrimSpace(quoted)
		}
		number, err := strconv.ParseFloat(text, 64)
		switch {
		case name == "" || len(name) > maxCountName:
			return nil, fmt.Errorf("payload field %q has a count called %q; a name has 1 to %d characters", part, shortenText(name), maxCountName)
		case err != nil || number != math.Trunc(number) || number < 0 || number > math.MaxInt32:
			return nil, fmt.Errorf(
				"payload field %q has %s for %q; it has to be a whole number from 0 to %d", part, shorten(value), name, math.MaxInt32,
			)
		}
		counts[name] = int64(number)
	}
	return counts, nil
}

// RequestUpdate stores the state of a member's queue, which RequestStatus and the metrics tell of.
func (s *Server) RequestUpdate(ctx context.Context, request *ensemble.UpdateRequest) (*ensemble.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	const action = "update"
	m, err := s.member(ctx, request.GetMember(), request.GetName(), toResize)
	if err != nil {
		return s.refuse(action, m, err), nil
	}
	queue, update, err := parseQueue(request.GetPayload())
	if err != nil {
		return s.refuse(action, m, err), nil
	}
	queue.At, queue.By = metav1.NewMicroTime(s.clock.Now()), m.by
	stored, err := s.queues.tell(ctx, m.key, &report{member: m.object.UID, queue: *queue})
	if err != nil {
		return s.refuse(action, m, err), nil
	}
	update.Reason = "stored; sizes are decided by grow and shrink requests alone"
	if !stored {
		update.Reason = fmt.Sprintf("taken, and stored within about %s; sizes are decided by grow and shrink requests alone", writeEvery)
	}
	s.metrics.answered(action, ensemble.Response_SUCCESS)
	return respond(ensemble.Response_SUCCESS, update), nil
}
