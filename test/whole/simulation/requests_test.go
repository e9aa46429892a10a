package simulation

import (
	"os"
	"strings"
	"testing"
	"time"
)

func TestReadRequests(t *testing.T) {
	t.Parallel()
	got, err := ReadRequests(strings.NewReader("time,member,action,amount,work\n0,a,grow,4,1200\n# a comment\n30.5,b,shrink,2,\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []Request{
		{Line: 2, Member: "a", Grows: true, Amount: 4, Work: 1200},
		{Line: 4, At: 30500 * time.Millisecond, Member: "b", Amount: 2},
	}
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestReadRequestsSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	const header = "time,member,action,amount,work\n"
	for name, c := range map[string]struct{ in, want string }{
		"no header":        {"", `line 1: the header is ""; it must be "time,member,action,amount" or "time,member,action,amount,work"`},
		"a wrong header":   {"when,who\n", `line 1: the header is "when,who"; it must be`},
		"no request":       {header, "there is no request; there must be one in each line after the header"},
		"a missing field":  {header + "0,a,grow\n", "line 2: there are 3 fields; there must be 5: time,member,action,amount,work"},
		"a wrong time":     {header + "soon,a,grow,1,\n", `line 2: time is "soon"; it must be a number of seconds from 0`},
		"a time before":    {header + "9,a,grow,1,\n8,a,grow,1,\n", `line 3: time is "8"; it must not be before that of line 2, which is 9`},
		"no member":        {header + "0,,grow,1,\n", `line 2: member is ""; it must be the name of a member`},
		"a wrong action":   {header + "0,a,explode,1,\n", `line 2: action is "explode"; it must be grow or shrink`},
		"a wrong amount":   {header + "0,a,grow,0,\n", `line 2: amount is "0"; it must be a whole number of pods, at least 1`},
		"wrong work":       {header + "0,a,grow,1,much\n", `line 2: work is "much"; it must be a number of pod-seconds`},
		"work of a shrink": {header + "0,a,shrink,1,5\n", `line 2: work is "5"; it must be empty for a request to shrink`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := ReadRequests(strings.NewReader(c.in))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("the error is %v, want one with %s", err, c.want)
			}
		})
	}
}

// TestReplay replays the example and checks what the strategies are about: nodes first has no pod that waits for a machine,
// patch first has, and a cloud that is always on costs most.
func TestReplay(t *testing.T) {
	t.Parallel()
	file, err := os.Open("testdata/trace.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	requests, err := ReadRequests(file)
	if err != nil {
		t.Fatal(err)
	}
	outcomes, err := Replay(requests, Cloud{Nodes: 16, Boot: 90 * time.Second, Jitter: 30 * time.Second, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	ours, patched, always := outcomes[0], outcomes[1], outcomes[2]
	if ours.PendingSeconds > 60 || patched.PendingSeconds < 10*ours.PendingSeconds {
		t.Errorf("pods waited %.0f s with nodes first and %.0f s with patch first", ours.PendingSeconds, patched.PendingSeconds)
	}
	if ours.NodeSeconds >= patched.NodeSeconds || patched.NodeSeconds >= always.NodeSeconds {
		t.Errorf("node-seconds are %.0f, %.0f and %.0f, want nodes first to cost least and always on most", ours.NodeSeconds,
			patched.NodeSeconds, always.NodeSeconds)
	}
	if ours.Blocked+ours.Unserved > 0 || ours.Waiting < always.Waiting {
		t.Errorf("nodes first blocks %d, leaves %d and waits %s; always on waits %s", ours.Blocked, ours.Unserved, ours.Waiting, always.Waiting)
	}
}

// TestReplayOfTwoGrowthsOverOnePool: two growths that do not fit together. Patched at once each gets a part, and neither ever
// begins; nodes first serves them one after the other.
func TestReplayOfTwoGrowthsOverOnePool(t *testing.T) {
	t.Parallel()
	requests, err := ReadRequests(strings.NewReader("time,member,action,amount,work\n" +
		"0,a,grow,6,600\n1,b,grow,6,600\n2,a,shrink,6,\n3,b,shrink,6,\n"))
	if err != nil {
		t.Fatal(err)
	}
	outcomes, err := Replay(requests, Cloud{Nodes: 10, Boot: time.Minute, Jitter: time.Minute, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	if outcomes[0].Blocked != 0 || outcomes[0].Unserved != 0 {
		t.Errorf("nodes first: %+v", outcomes[0])
	}
	if outcomes[1].Blocked == 0 {
		t.Errorf("patch first: %+v, want a growth that is blocked", outcomes[1])
	}
}

func TestReplayRefusesWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"0,a,grow,16\n":  "line 2: amount is 16; a has size 1 then and there are 16 nodes, so it must be at most 15",
		"0,a,shrink,1\n": "line 2: amount is 1; a has size 1 then and keeps one pod, so it must be at most 0",
	} {
		requests, err := ReadRequests(strings.NewReader("time,member,action,amount\n" + in))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Replay(requests, Cloud{Nodes: 16, Boot: time.Minute, Seed: 1}); err == nil || err.Error() != want {
			t.Errorf("the error is %v, want %s", err, want)
		}
	}
}
