package flux

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/flux/idset"
)

// The events of a resource journal (RFC 44) that say something of ranks.
const (
	ResourceRestart = "restart"
	ResourceDefine  = "resource-define"
	ResourceOnline  = "online"
	ResourceOffline = "offline"
	ResourceTorpid  = "torpid"
	ResourceLively  = "lively"
	ResourceDrain   = "drain"
	ResourceUndrain = "undrain"
)

// ResourceEvent is a change of what can be used.
type ResourceEvent struct {
	// Name is one of the constants, or another that is passed on as it is.
	Name string
	Time time.Time
	// Ranks are those that it is about: with ResourceRestart all that there can be.
	Ranks idset.Set
	// Online are with ResourceRestart the ranks that were online.
	Online idset.Set
	// Reason is that of a drain or undrain, or "".
	Reason string
	// Context is all that the event says.
	Context json.RawMessage
}

// ResourceEntry is one response of a resource journal.
type ResourceEntry struct {
	// Events are in order. None says that those before it had happened when the journal was asked for, and those after it happen now:
	// CaughtUp.
	Events []ResourceEvent
	// R comes with ResourceDefine: all resources of the instance.
	R *ResourceSet
}

// CaughtUp says that the past is over: what follows happens now.
func (e *ResourceEntry) CaughtUp() bool { return len(e.Events) == 0 }

// ResourceJournal streams what happened, and what happens, to the ranks. The past may have been cut short: ResourceStatus says what holds.
// flux-core has it since 0.72; before that the stream ends with ENOSYS.
func (c *Client) ResourceJournal(ctx context.Context) (*Stream[ResourceEntry], error) {
	return openStream(ctx, c, lead, "resource.journal", nil, decodeResourceEntry)
}

func decodeResourceEntry(payload []byte) (ResourceEntry, error) {
	var read struct {
		Events *[]event     `json:"events"`
		R      *ResourceSet `json:"R"`
	}
	if err := decodeJSON(payload, &read); err != nil {
		return ResourceEntry{}, err
	}
	if read.Events == nil {
		return ResourceEntry{}, missing("events")
	}
	entry := ResourceEntry{R: read.R}
	for i := range *read.Events {
		event, err := (*read.Events)[i].ofResource()
		if err != nil {
			return ResourceEntry{}, fmt.Errorf("events[%d]: %w", i, err)
		}
		entry.Events = append(entry.Events, event)
	}
	return entry, nil
}

// event is an entry of an event log (RFC 18).
type event struct {
	Timestamp *float64        `json:"timestamp"`
	Name      string          `json:"name"`
	Context   json.RawMessage `json:"context"`
}

func (e *event) check() error {
	switch {
	case e.Name == "":
		return missing("name")
	case e.Timestamp == nil:
		return missing("timestamp")
	default:
		return nil
	}
}

func (e *event) ofResource() (ResourceEvent, error) {
	if err := e.check(); err != nil {
		return ResourceEvent{}, err
	}
	out := ResourceEvent{Name: e.Name, Time: unixTime(*e.Timestamp), Context: e.Context}
	var ranks string
	switch e.Name {
	case ResourceRestart:
		ranks = "ranks"
	case ResourceOnline, ResourceOffline, ResourceTorpid, ResourceLively, ResourceDrain, ResourceUndrain:
		ranks = "idset"
	default:
		return out, nil
	}
	var read struct {
		Ranks  *idset.Set `json:"ranks"`
		IDSet  *idset.Set `json:"idset"`
		Online idset.Set  `json:"online"`
		Reason string     `json:"reason"`
	}
	if err := decodeContext(e.Name, e.Context, &read); err != nil {
		return ResourceEvent{}, err
	}
	of := read.IDSet
	if e.Name == ResourceRestart {
		of = read.Ranks
	}
	if of == nil {
		return ResourceEvent{}, fmt.Errorf("%s: %w", e.Name, missing(ranks))
	}
	out.Ranks, out.Online, out.Reason = *of, read.Online, read.Reason
	return out, nil
}

// decodeContext reads what an event says.
func decodeContext(name string, context json.RawMessage, into any) error {
	if len(context) == 0 {
		return fmt.Errorf("%s: %w", name, missing("context"))
	}
	if err := json.Unmarshal(context, into); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
