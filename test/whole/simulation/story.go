package simulation

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

// timestamps are the points in time that messages name.
var timestamps = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`)

// relative is a point in time as the story counts it: minutes, seconds and tenths since the world began.
func relative(t time.Time) string {
	since := t.Sub(noon)
	return fmt.Sprintf("%3d:%04.1f", int(since.Minutes()), (since % time.Minute).Truncate(100*time.Millisecond).Seconds())
}

// inStory puts a timestamp of a message into the time of the story.
func inStory(stamp string) string {
	t, err := time.Parse(time.RFC3339, stamp)
	if err != nil {
		return stamp
	}
	since := t.Sub(noon)
	return fmt.Sprintf("%d:%02d", int(since.Minutes()), int((since % time.Minute).Seconds()))
}

// state is how everything stands at the end of a story.
func (w *world) state() string {
	var b strings.Builder
	for _, p := range w.pools.live.items {
		fmt.Fprintf(&b, "pool %s: sizes %d to %d, floor %d, target %d%s\n", p.name, p.minSize, p.maxSize, p.floor, p.target,
			listed(", to be deleted ", p.toDelete))
	}
	for _, m := range w.members.live.items {
		size := int32(0)
		if c := w.clusters.get(m.name); c != nil {
			size = c.size
		}
		fmt.Fprintf(&b, "member %s: size %d, wants %d; %s\n", m.name, size, m.wants, inWords(m.reservations))
		for i := range m.conditions {
			fmt.Fprintf(&b, "    %s %s, %s: %s\n", m.conditions[i].Type, m.conditions[i].Status, m.conditions[i].Reason, m.conditions[i].Message)
		}
		if g := m.growth; g != nil {
			fmt.Fprintf(&b, "    grows from %d to %d, asked for at %s, has until %s, failed %d times\n", g.From, g.Size, relative(g.Since.Time),
				relativeTo(g.Deadline), g.Attempts)
		}
	}
	for _, n := range w.nodes.live.items {
		var says, pods []string
		if n.cordoned {
			says = append(says, "cordoned")
		}
		if n.reserved && n.heldBy == "" {
			says = append(says, "marked as a member's")
		}
		if n.tainted {
			says = append(says, "tainted for deletion")
		}
		for _, p := range w.pods.live.items {
			if p.node == n.name {
				pods = append(pods, p.name)
			}
		}
		ready := "NotReady"
		if n.ready {
			ready = "Ready"
		}
		if n.heldBy != "" {
			says = append(says, "held by "+n.heldBy)
		}
		fmt.Fprintf(&b, "node %s: %s%s%s\n", n.name, ready, listed(", ", says), listed("; pods: ", pods))
	}
	for _, p := range w.pods.live.items {
		switch {
		case p.node != "" || p.succeeded:
		case p.gated:
			fmt.Fprintf(&b, "pod %s waits behind the gate\n", p.name)
		case p.releasedFor != "":
			fmt.Fprintf(&b, "pod %s is on its way to %s\n", p.name, p.releasedFor)
		default:
			fmt.Fprintf(&b, "pod %s has no node\n", p.name)
		}
	}
	return timestamps.ReplaceAllStringFunc(b.String(), inStory)
}

// listed are words behind an introduction, and nothing where there are none.
func listed(before string, words []string) string {
	if len(words) == 0 {
		return ""
	}
	return before + strings.Join(words, ", ")
}
