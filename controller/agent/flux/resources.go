package flux

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/flux/idset"
)

// ResourceStatus says which ranks can be used.
type ResourceStatus struct {
	// Online and Offline are the ranks whose broker is, and is not, part of the instance. Together they are all ranks that there can be.
	Online, Offline idset.Set
	// Torpid ranks are online and have not been heard of for some time, 30 s by default. Jobs on them go on; no more are placed there.
	Torpid idset.Set
	// Excluded ranks are kept from jobs by configuration.
	Excluded idset.Set
	// Drains are the ranks on which no more jobs are placed, by reason and time; running jobs go on. They are in the order of their
	// lowest rank. A rank stays drained when its broker goes and comes back.
	Drains []Drain
}

// Drain is some ranks that were drained together.
type Drain struct {
	Ranks idset.Set
	// Reason is what whoever drained them wrote, or "".
	Reason string
	// Since is to the second.
	Since time.Time
}

// Drained are all ranks that are drained.
func (s *ResourceStatus) Drained() idset.Set { return s.DrainedWith("") }

// DrainedWith are the ranks that are drained with a reason that begins with prefix: a prefix that is one's own tells one's own drains from
// those of people.
func (s *ResourceStatus) DrainedWith(prefix string) idset.Set {
	var drained idset.Set
	for _, drain := range s.Drains {
		if strings.HasPrefix(drain.Reason, prefix) {
			drained = drained.Union(drain.Ranks)
		}
	}
	return drained
}

// ResourceStatus asks which ranks can be used.
func (c *Client) ResourceStatus(ctx context.Context) (*ResourceStatus, error) {
	var status ResourceStatus
	if err := c.Call(ctx, lead, "resource.status", nil, &status); err != nil {
		return nil, err
	}
	return &status, nil
}

// UnmarshalJSON reads the response of resource.status.
func (s *ResourceStatus) UnmarshalJSON(text []byte) error {
	var read struct {
		Online  *idset.Set `json:"online"`
		Offline *idset.Set `json:"offline"`
		Torpid  idset.Set  `json:"torpid"`
		Exclude idset.Set  `json:"exclude"`
		Drain   *map[string]struct {
			Timestamp float64 `json:"timestamp"`
			Reason    string  `json:"reason"`
		} `json:"drain"`
	}
	if err := json.Unmarshal(text, &read); err != nil {
		return err
	}
	switch {
	case read.Online == nil:
		return missing("online")
	case read.Offline == nil:
		return missing("offline")
	case read.Drain == nil:
		return missing("drain")
	}
	status := ResourceStatus{Online: *read.Online, Offline: *read.Offline, Torpid: read.Torpid, Excluded: read.Exclude}
	for ranks, drain := range *read.Drain {
		set, err := idset.Parse(ranks)
		if err != nil {
			return fmt.Errorf("drain: %w", err)
		}
		status.Drains = append(status.Drains, Drain{Ranks: set, Reason: drain.Reason, Since: unixTime(drain.Timestamp)})
	}
	slices.SortFunc(status.Drains, func(a, b Drain) int { return a.Ranks.Compare(b.Ranks) })
	*s = status
	return nil
}

// Allocated are the resources that jobs have, or that are being cleaned after one: a rank in it is busy.
func (c *Client) Allocated(ctx context.Context) (*ResourceSet, error) {
	var read allocated
	if err := c.Call(ctx, lead, "job-manager.resource-status", nil, &read); err != nil {
		return nil, err
	}
	return &read.set, nil
}

type allocated struct{ set ResourceSet }

// UnmarshalJSON reads the response of job-manager.resource-status.
func (a *allocated) UnmarshalJSON(text []byte) error {
	var read struct {
		Allocated *ResourceSet `json:"allocated"`
	}
	if err := json.Unmarshal(text, &read); err != nil {
		return err
	}
	if read.Allocated == nil {
		return missing("allocated")
	}
	a.set = *read.Allocated
	return nil
}

// SchedulerStatus is what the scheduler has to place jobs on. Ranks that are excluded are in none of the three.
type SchedulerStatus struct {
	// All is what there is, Down the part of it that is offline, torpid or drained, and Allocated the part that is busy.
	All, Down, Allocated ResourceSet
}

// SchedulerStatus asks what there is to place jobs on.
func (c *Client) SchedulerStatus(ctx context.Context) (*SchedulerStatus, error) {
	var status SchedulerStatus
	if err := c.Call(ctx, lead, "resource.sched-status", nil, &status); err != nil {
		return nil, err
	}
	return &status, nil
}

// UnmarshalJSON reads the response of resource.sched-status.
func (s *SchedulerStatus) UnmarshalJSON(text []byte) error {
	var read struct {
		All       *ResourceSet `json:"all"`
		Down      *ResourceSet `json:"down"`
		Allocated *ResourceSet `json:"allocated"`
	}
	if err := json.Unmarshal(text, &read); err != nil {
		return err
	}
	switch {
	case read.All == nil:
		return missing("all")
	case read.Down == nil:
		return missing("down")
	case read.Allocated == nil:
		return missing("allocated")
	}
	s.All, s.Down, s.Allocated = *read.All, *read.Down, *read.Allocated
	return nil
}

// Drain lets no more jobs be placed on ranks, which may be offline. Those that somebody else has drained keep their reason. It returns when
// it is in force: no job is placed there after that.
func (c *Client) Drain(ctx context.Context, ranks idset.Set, reason string) error {
	return c.Call(ctx, lead, "resource.drain", map[string]string{"targets": ranks.String(), "reason": reason, "mode": "update"}, nil)
}

// Undrain lets jobs be placed on ranks again, whoever drained them: DrainedWith tells one's own. Ranks that are not drained are no error.
func (c *Client) Undrain(ctx context.Context, ranks idset.Set) error {
	return c.Call(ctx, lead, "resource.undrain", map[string]string{"targets": ranks.String(), "mode": "update"}, nil)
}

// Online streams the ranks that are online: first what they are, then again after each change.
func (c *Client) Online(ctx context.Context) (*Stream[idset.Set], error) {
	return openStream(ctx, c, lead, "groups.get", map[string]string{"name": "broker.online"}, decodeMembers)
}

func decodeMembers(payload []byte) (idset.Set, error) {
	var read struct {
		Members *idset.Set `json:"members"`
	}
	if err := decodeJSON(payload, &read); err != nil {
		return idset.Set{}, err
	}
	if read.Members == nil {
		return idset.Set{}, missing("members")
	}
	return *read.Members, nil
}
