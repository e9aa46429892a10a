package flux

import (
	"context"
	"encoding/json"
	"syscall"
)

// Raise raises an exception on a job that has not ended. One of severity 0 ends it. ENOENT says that there is no such job, or that it
// has ended: Text tells which.
func (c *Client) Raise(ctx context.Context, id JobID, exception Exception) error {
	request := map[string]any{"id": id, "severity": exception.Severity, "type": exception.Type}
	if exception.Note != "" {
		request["note"] = exception.Note
	}
	return c.Call(ctx, AnyRank, "job-manager.raise", request, nil)
}

// Cancel ends a job, whether it waits or runs. note is for people, and may be "".
func (c *Client) Cancel(ctx context.Context, id JobID, note string) error {
	return c.Raise(ctx, id, Exception{Type: "cancel", Note: note})
}

// Signal sends a signal to the tasks of a job that runs. Flux does not say whether it arrived. EINVAL says that it does not run.
func (c *Client) Signal(ctx context.Context, id JobID, signal syscall.Signal) error {
	return c.Call(ctx, AnyRank, "job-manager.kill", map[string]any{"id": id, "signum": int(signal)}, nil)
}

// SetUrgency changes the urgency of a job that waits, and returns what it was. UrgencyHold holds it. EINVAL says that there is no such job,
// that it has ended, or that it has its resources already.
func (c *Client) SetUrgency(ctx context.Context, id JobID, urgency int) (old int, err error) {
	if err := checkUrgency(urgency); err != nil {
		return 0, err
	}
	var response oldUrgency
	if err := c.Call(ctx, AnyRank, "job-manager.urgency", map[string]any{"id": id, "urgency": urgency}, &response); err != nil {
		return 0, err
	}
	return response.old, nil
}

type oldUrgency struct{ old int }

// UnmarshalJSON reads the response of job-manager.urgency.
func (o *oldUrgency) UnmarshalJSON(text []byte) error {
	var read struct {
		Old *int `json:"old_urgency"`
	}
	if err := json.Unmarshal(text, &read); err != nil {
		return err
	}
	if read.Old == nil {
		return missing("old_urgency")
	}
	o.old = *read.Old
	return nil
}
