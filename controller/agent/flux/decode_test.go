package flux

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/flux/idset"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/flux/wire"
)

// reply is a payload that flux-core sends, and how it is read here.
type reply struct {
	topic string
	// source is where in flux-core 0.88 it is made.
	source string
	text   string
	want   any
	// needs are the fields without which it is not understood.
	needs []string
}

// replies are written by hand from what makes them in flux-core, and from the RFCs that say what is in it. Each has a field that nobody
// knows, because a later release may have one.
var replies = []reply{
	{
		topic: "attr.get", source: "src/broker/attr.c, getattr_request_cb",
		text:  `{"value":"0.88.0","flags":1,"new":true}`,
		want:  attribute{value: "0.88.0"},
		needs: []string{"value"},
	},
	{
		topic: "job-ingest.submit", source: "src/modules/job-ingest/job-ingest.c",
		text:  `{"id":6731191091817518,"new":true}`,
		want:  submitted{id: 6731191091817518},
		needs: []string{"id"},
	},
	{
		topic: "job-manager.urgency", source: "src/modules/job-manager/urgency.c",
		text:  `{"old_urgency":16,"new":true}`,
		want:  oldUrgency{old: 16},
		needs: []string{"old_urgency"},
	},
	{
		topic: "groups.get", source: "src/modules/groups/groups.c",
		text:  `{"members":"0-2,5","new":true}`,
		want:  idset.Of(0, 1, 2, 5),
		needs: []string{"members"},
	},
	{
		topic: "resource.status", source: "src/modules/resource/status.c, prepare_status_payload",
		text: `{"R":{"version":1,"execution":{"R_lite":[]}},"online":"0-3","offline":"4-5","exclude":"","torpid":"3","new":[],` +
			`"drain":{"2-3":{"timestamp":1738091754.0,"reason":"mine: a reason","new":1},"1":{"timestamp":1738091755.0,"reason":""}}}`,
		want: ResourceStatus{
			Online: idset.Range(0, 4), Offline: idset.Range(4, 6), Torpid: idset.Of(3),
			Drains: []Drain{
				{Ranks: idset.Of(1), Since: time.Unix(1738091755, 0).UTC()},
				{Ranks: idset.Of(2, 3), Reason: "mine: a reason", Since: time.Unix(1738091754, 0).UTC()},
			},
		},
		needs: []string{"online", "offline", "drain"},
	},
	{
		topic: "job-manager.resource-status", source: "src/modules/job-manager/alloc.c, resource_status_cb; R is of RFC 20",
		text: `{"allocated":{"version":1,"execution":{"R_lite":[{"rank":"0-1","children":{"core":"0-3","gpu":"0"}},` +
			`{"rank":"4","children":{"core":"2"}}],"starttime":0.0,"expiration":1676562342.5,"nodelist":["a[0-1]","b"],"new":1},"new":2}}`,
		want: allocated{set: ResourceSet{
			Nodes: []RankResources{
				{Ranks: idset.Of(0, 1), Cores: idset.Range(0, 4), GPUs: idset.Of(0)}, {Ranks: idset.Of(4), Cores: idset.Of(2)},
			},
			Hosts: []string{"a[0-1]", "b"}, Expires: time.UnixMilli(1676562342500).UTC(),
		}},
		needs: []string{"allocated"},
	},
	{
		topic: "resource.sched-status", source: "src/modules/resource/status.c, prepare_sched_status_payload",
		text: `{"all":{"version":1,"execution":{"R_lite":[{"rank":"0-1","children":{"core":"0"}}]}},` +
			`"down":{"version":1,"execution":{"R_lite":[{"rank":"1","children":{"core":"0"}}]}},` +
			`"allocated":{"version":1,"execution":{"R_lite":[],"starttime":0.0,"expiration":0.0}},"new":1}`,
		want: SchedulerStatus{
			All:  ResourceSet{Nodes: []RankResources{{Ranks: idset.Of(0, 1), Cores: idset.Of(0)}}},
			Down: ResourceSet{Nodes: []RankResources{{Ranks: idset.Of(1), Cores: idset.Of(0)}}},
		},
		needs: []string{"all", "down", "allocated"},
	},
	{
		topic: "job-list.job-stats", source: "src/modules/job-list/stats.c, stats_encode",
		text: `{"job_states":{"depend":1,"priority":2,"sched":3,"run":4,"cleanup":5,"inactive":6,"total":21,"new":7},"successful":8,` +
			`"failed":9,"canceled":10,"timeout":11,"inactive_purged":12,"queues":[{"name":"debug"}],"new":1}`,
		want: JobStats{
			Depend: 1, Priority: 2, Sched: 3, Run: 4, Cleanup: 5, Inactive: 6, Successful: 8, Failed: 9, Canceled: 10, TimedOut: 11, Purged: 12,
		},
		needs: []string{"job_states"},
	},
	{
		topic: "job-list.list", source: "src/modules/job-list/job_util.c, job_to_json",
		text: `{"jobs":[{"id":1,"state":64,"userid":1000,"urgency":16,"priority":4294967295,"t_submit":10.0,"t_run":11.5,"t_inactive":12.25,` +
			`"name":"app","queue":"debug","ntasks":2,"ncores":8,"duration":60.0,"nnodes":2,"ranks":"[3-4]","waitstatus":256,` +
			`"success":false,"exception_occurred":true,"exception_severity":0,"exception_type":"exec","exception_note":"lost","result":2,` +
			`"annotations":{"sched":{}}},{"id":2,"state":8,"new":1}],"new":1}`,
		want: jobList{jobs: []Job{
			{
				ID: 1, State: StateInactive, UserID: 1000, Urgency: 16, Priority: 4294967295, Submitted: time.Unix(10, 0).UTC(),
				Started: time.UnixMilli(11500).UTC(), Ended: time.UnixMilli(12250).UTC(), Name: "app", Queue: "debug", Tasks: 2, Cores: 8,
				Duration: time.Minute, Nodes: 2, Ranks: idset.Of(3, 4), WaitStatus: 256, HasWaitStatus: true,
				Exception: &Exception{Type: "exec", Note: "lost"}, Result: Failed,
			},
			{ID: 2, State: StateSched},
		}},
		needs: []string{"jobs"},
	},
	{
		topic: "job-list.list-id", source: "src/modules/job-list/list.c, list_id_cb",
		text:  `{"job":{"id":2,"state":8}}`,
		want:  oneJob{job: Job{ID: 2, State: StateSched}},
		needs: []string{"job"},
	},
	{
		topic: "job-manager.events-journal", source: "src/modules/job-manager/journal.c, send_job_events; events are of RFC 21",
		text: `{"id":3,"events":[{"timestamp":1552593348.073045,"name":"submit","context":{"urgency":16,"userid":5588,"flags":0,"version":1}},` +
			`{"timestamp":1605115080.0358412,"name":"validate","new":1}],"jobspec":{"version":1,"resources":[{"type":"node","count":4,` +
			`"exclusive":true,"with":[{"type":"slot","count":2,"label":"task","with":[{"type":"core","count":3},{"type":"gpu","count":1}]}]}],` +
			`"tasks":[{"command":["app","x"],"slot":"task","count":{"per_slot":1}}],"attributes":{"system":{"duration":3600.0,"queue":"debug",` +
			`"job":{"name":"n"}},"user":{"group":"g-1","size":3}}},"R":{"version":1,"execution":{"R_lite":[{"rank":"7","children":{"core":"0"}}]}},` +
			`"new":1}`,
		want: JournalEntry{
			ID: 3,
			Events: []JobEvent{
				{
					Name: "submit", Time: time.UnixMicro(1552593348073045).UTC(),
					Context: json.RawMessage(`{"urgency":16,"userid":5588,"flags":0,"version":1}`),
				},
				{Name: "validate", Time: time.UnixMicro(1605115080035841).UTC()},
			},
			Jobspec: &Jobspec{
				Nodes: 4, Exclusive: true, Slots: 8, CoresPerSlot: 3, GPUsPerSlot: 1, Command: []string{"app", "x"}, Duration: time.Hour,
				Name: "n", Queue: "debug", User: map[string]json.RawMessage{"group": json.RawMessage(`"g-1"`), "size": json.RawMessage("3")},
			},
			R: &ResourceSet{Nodes: []RankResources{{Ranks: idset.Of(7), Cores: idset.Of(0)}}},
		},
		needs: []string{"id", "events"},
	},
	{
		topic: "job-manager.events-journal", source: "src/modules/job-manager/journal.c, send_backlog: its end",
		text:  `{"id":-1,"events":[]}`,
		want:  JournalEntry{ID: NoJob},
		needs: []string{"id", "events"},
	},
	{
		topic: "resource.journal", source: "src/modules/resource/reslog.c; events are of RFC 44",
		text: `{"events":[{"timestamp":1.5,"name":"restart","context":{"ranks":"0-3","online":"0","nodelist":"a[0-3]"}},` +
			`{"timestamp":2.0,"name":"resource-define","context":{"method":"configuration"}},` +
			`{"timestamp":3.0,"name":"drain","context":{"idset":"1-2","nodelist":"a[1-2]","reason":"a reason","overwrite":0,"new":1}},` +
			`{"timestamp":4.0,"name":"offline","context":{"idset":"3"}},{"timestamp":5.0,"name":"truncate"}],` +
			`"R":{"version":1,"execution":{"R_lite":[{"rank":"0-3","children":{"core":"0"}}]}},"new":1}`,
		want: ResourceEntry{
			Events: []ResourceEvent{
				{
					Name: ResourceRestart, Time: time.UnixMilli(1500).UTC(), Ranks: idset.Range(0, 4), Online: idset.Of(0),
					Context: json.RawMessage(`{"ranks":"0-3","online":"0","nodelist":"a[0-3]"}`),
				},
				{Name: ResourceDefine, Time: time.Unix(2, 0).UTC(), Context: json.RawMessage(`{"method":"configuration"}`)},
				{
					Name: ResourceDrain, Time: time.Unix(3, 0).UTC(), Ranks: idset.Of(1, 2), Reason: "a reason",
					Context: json.RawMessage(`{"idset":"1-2","nodelist":"a[1-2]","reason":"a reason","overwrite":0,"new":1}`),
				},
				{Name: ResourceOffline, Time: time.Unix(4, 0).UTC(), Ranks: idset.Of(3), Context: json.RawMessage(`{"idset":"3"}`)},
				{Name: "truncate", Time: time.Unix(5, 0).UTC()},
			},
			R: &ResourceSet{Nodes: []RankResources{{Ranks: idset.Range(0, 4), Cores: idset.Of(0)}}},
		},
		needs: []string{"events"},
	},
}

// decoders read the payload of a topic.
var decoders = map[string]func(payload []byte) (any, error){
	"attr.get":                    into[attribute],
	"job-ingest.submit":           into[submitted],
	"job-manager.urgency":         into[oldUrgency],
	"groups.get":                  decoding(decodeMembers),
	"resource.status":             into[ResourceStatus],
	"job-manager.resource-status": into[allocated],
	"resource.sched-status":       into[SchedulerStatus],
	"job-list.job-stats":          decoding(decodeJobStats),
	"job-list.list":               into[jobList],
	"job-list.list-id":            into[oneJob],
	"job-manager.events-journal":  decoding(decodeJournalEntry),
	"resource.journal":            decoding(decodeResourceEntry),
}

func into[T any](payload []byte) (any, error) {
	var value T
	err := decodeReply("topic", &wire.Message{Type: wire.Response, Payload: payload}, &value)
	return value, err
}

func decoding[T any](decode func([]byte) (T, error)) func([]byte) (any, error) {
	return func(payload []byte) (any, error) { return decode(payload) }
}

// unexported lets values of this package be compared.
var unexported = cmp.Exporter(func(t reflect.Type) bool { return strings.HasSuffix(t.PkgPath(), "controller/agent/flux") })

func TestReplies(t *testing.T) {
	t.Parallel()
	for _, row := range replies {
		t.Run(row.topic, func(t *testing.T) {
			t.Parallel()
			got, err := decoders[row.topic](wire.Text(row.text))
			if err != nil {
				t.Fatalf("%s: %v", row.source, err)
			}
			if diff := cmp.Diff(row.want, got, unexported); diff != "" {
				t.Errorf("%s (-want +got):\n%s", row.source, diff)
			}
		})
	}
}

func TestRepliesWithoutWhatDecides(t *testing.T) {
	t.Parallel()
	for _, row := range replies {
		for _, field := range row.needs {
			for what, value := range map[string]any{"without": nil, "with a null for": json.RawMessage("null")} {
				var whole map[string]any
				if err := json.Unmarshal([]byte(row.text), &whole); err != nil {
					t.Fatal(err)
				}
				delete(whole, field)
				if value != nil {
					whole[field] = value
				}
				payload, err := wire.JSON(whole)
				if err != nil {
					t.Fatal(err)
				}
				if got, err := decoders[row.topic](payload); err == nil || !strings.Contains(err.Error(), `"`+field+`" is missing`) {
					t.Errorf("%s %s %s: %+v, %v; want that it is missing", row.topic, what, field, got, err)
				}
			}
		}
	}
}

func TestRepliesThatAreNotUnderstood(t *testing.T) {
	t.Parallel()
	for topic, rows := range map[string]map[string]string{
		"resource.status": {
			`{"online":"x","offline":"","drain":{}}`:      `idset "x"`,
			`{"online":"","offline":"","drain":{"x":{}}}`: `drain: idset "x"`,
			`{"online":3,"offline":"","drain":{}}`:        "number",
			``:                                            "it is empty",
			`[]`:                                          "array",
			`{"online":"0","offline":"1","drain":{}} and more`:                             "there is more after its JSON",
			`{"online":"0","offline":"1","drain":{"0":{"timestamp":"x","reason":"mine"}}}`: "string",
		},
		"job-manager.resource-status": {
			`{"allocated":{}}`:                                           `"version" is missing`,
			`{"allocated":{"version":2}}`:                                "version 2 of R",
			`{"allocated":{"version":1}}`:                                `"execution" is missing`,
			`{"allocated":{"version":1,"execution":{}}}`:                 `"execution.R_lite" is missing`,
			`{"allocated":{"version":1,"execution":{"R_lite":null}}}`:    `"execution.R_lite" is missing`,
			`{"allocated":{"version":1,"execution":{"R_lite":[{}]}}}`:    `"execution.R_lite[0].rank" is missing`,
			`{"allocated":{"version":1,"execution":{"R_lite":["0-1"]}}}`: "string",
		},
		"job-list.list": {
			`{"jobs":[{"state":1}]}`:            `"id" is missing`,
			`{"jobs":[{"id":1}]}`:               `job ƒ2: "state" is missing`,
			`{"jobs":[{"id":1.5,"state":1}]}`:   "job id 1.5",
			`{"jobs":[{"id":1,"state":"run"}]}`: "string",
		},
		"job-list.job-stats": {
			`{"job_states":{"run":1}}`:   `"job_states.sched" is missing`,
			`{"job_states":{"sched":1}}`: `"job_states.run" is missing`,
		},
		"job-manager.events-journal": {
			`{"id":1,"events":[{"timestamp":1}]}`:              `events[0]: "name" is missing`,
			`{"id":1,"events":[{"name":"clean"}]}`:             `events[0]: "timestamp" is missing`,
			`{"id":1,"events":[{"timestamp":1,"name":false}]}`: "bool",
		},
		"resource.journal": {
			`{"events":[{"timestamp":1,"name":"online"}]}`:                            `events[0]: online: "context" is missing`,
			`{"events":[{"timestamp":1,"name":"online","context":{}}]}`:               `events[0]: online: "idset" is missing`,
			`{"events":[{"timestamp":1,"name":"restart","context":{"idset":"0"}}]}`:   `events[0]: restart: "ranks" is missing`,
			`{"events":[{"timestamp":1,"name":"drain","context":{"idset":"a-b"}}]}`:   `idset "a-b"`,
			`{"events":[{"timestamp":1,"name":"offline","context":["idset","0-1"]}]}`: "array",
		},
	} {
		for text, want := range rows {
			if got, err := decoders[topic]([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s %s: %+v, %v; want %q", topic, text, got, err, want)
			}
		}
	}
}

func TestAJobspecThatIsNotUnderstoodLeavesTheEvents(t *testing.T) {
	t.Parallel()
	entry, err := decodeJournalEntry([]byte(
		`{"id":1,"events":[{"timestamp":1,"name":"submit"}],"jobspec":{"resources":[{"type":"node","count":[]}]},"R":null}`))
	if err != nil {
		t.Fatal(err)
	}
	if entry.Jobspec != nil || entry.R != nil || len(entry.Events) != 1 {
		t.Errorf("%+v, want the event alone", entry)
	}
	if entry.Err == nil || !strings.Contains(entry.Err.Error(), "count []") {
		t.Errorf("%v, want an error about the count", entry.Err)
	}
}

func TestContexts(t *testing.T) {
	t.Parallel()
	event := func(name, context string) *JobEvent { return &JobEvent{Name: name, Context: json.RawMessage(context)} }
	exception, err := event("exception", `{"type":"oom","severity":1,"userid":5588,"note":"out of memory"}`).Exception()
	if err != nil || exception != (Exception{Type: "oom", Severity: 1, Note: "out of memory"}) || exception.Fatal() {
		t.Errorf("%+v, %v", exception, err)
	}
	released, err := event("release", `{"ranks":"all","final":true}`).Released()
	if err != nil || !released.All || !released.Final || !released.Ranks.Empty() {
		t.Errorf("%+v, %v", released, err)
	}
	released, err = event("release", `{"ranks":"0-2","final":false}`).Released()
	if err != nil || released.All || released.Final || released.Ranks.Count() != 3 {
		t.Errorf("%+v, %v", released, err)
	}
	status, err := event("finish", `{"status":15}`).Finished()
	if err != nil || !status.Signaled() {
		t.Errorf("%v, %v", status, err)
	}
	for want, got := range map[string]func() error{
		`exception: "type" is missing`:     func() error { _, err := event("exception", `{"severity":0}`).Exception(); return err },
		`exception: "severity" is missing`: func() error { _, err := event("exception", `{"type":"x"}`).Exception(); return err },
		`finish: "status" is missing`:      func() error { _, err := event("finish", `{}`).Finished(); return err },
		`finish: "context" is missing`:     func() error { _, err := event("finish", ``).Finished(); return err },
		`release: "ranks" is missing`:      func() error { _, err := event("release", `{}`).Released(); return err },
		`release: idset "x"`:               func() error { _, err := event("release", `{"ranks":"x"}`).Released(); return err },
		`submit: "userid" is missing`:      func() error { _, err := event("submit", `{"urgency":1}`).Submitted(); return err },
		`submit: "urgency" is missing`:     func() error { _, err := event("submit", `{"userid":1}`).Submitted(); return err },
		`priority: "priority" is missing`:  func() error { _, err := event("priority", `{}`).Priority(); return err },
	} {
		if err := got(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// TestStates holds the states after events against RFC 21.
func TestStates(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		events string
		want   State
	}{
		{"submit", StateNew},
		{"submit validate", StateDepend},
		{"submit validate dependency-add depend", StatePriority},
		{"submit validate depend priority", StateSched},
		{"submit validate depend priority urgency", StatePriority},
		{"submit validate depend priority flux-restart priority", StateSched},
		{"submit validate depend priority jobspec-update", StatePriority},
		{"submit validate depend priority alloc prolog-start prolog-finish start", StateRun},
		{"submit validate depend priority alloc start urgency", StateRun},
		{"submit validate depend priority alloc start memo finish", StateCleanup},
		{"submit validate depend priority alloc start finish release free", StateCleanup},
		{"submit validate depend priority alloc start finish release free clean", StateInactive},
		{"submit validate depend exception clean", StateInactive},
		{"submit validate depend priority warning", StateSched},
		{"submit validate depend priority alloc start exception", StateCleanup},
		{"submit validate depend priority alloc start exception finish release free clean exception", StateInactive},
	} {
		entry := JournalEntry{ID: 1}
		for name := range strings.FieldsSeq(row.events) {
			event := JobEvent{Name: name}
			switch name {
			case "exception":
				event.Context = json.RawMessage(`{"type":"cancel","severity":0,"note":""}`)
			case "warning":
				event.Name, event.Context = "exception", json.RawMessage(`{"type":"w","severity":7,"note":""}`)
			}
			entry.Events = append(entry.Events, event)
		}
		if got, err := entry.State(); err != nil || got != row.want {
			t.Errorf("%s: %s, %v; want %s", row.events, got, err, row.want)
		}
	}
	if _, err := (&JournalEntry{Events: []JobEvent{{Name: "clean"}}}).State(); err == nil {
		t.Error("events without a submission: want an error")
	}
	if got := (StateSched | StateRun).String(); got != "sched|run" {
		t.Errorf("a set of states is %q", got)
	}
}

func TestCommands(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		command Command
		want    Jobspec
		tasks   string
	}{
		{
			Command{Args: []string{"app"}},
			Jobspec{Slots: 1, CoresPerSlot: 1, Command: []string{"app"}},
			`{"per_slot":1}`,
		},
		{
			Command{Args: []string{"app", "-x"}, Tasks: 3, CoresPerTask: 2, GPUsPerTask: 1, Duration: 90 * time.Second, Queue: "q", Name: "n"},
			Jobspec{Slots: 3, CoresPerSlot: 2, GPUsPerSlot: 1, Command: []string{"app", "-x"}, Duration: 90 * time.Second, Queue: "q", Name: "n"},
			`{"per_slot":1}`,
		},
		{
			Command{Args: []string{"app"}, Nodes: 2, Exclusive: true},
			Jobspec{Nodes: 2, Exclusive: true, Slots: 2, CoresPerSlot: 1, Command: []string{"app"}},
			`{"per_slot":1}`,
		},
		{
			// Three tasks on two nodes: two slots on each, of which one stays empty.
			Command{Args: []string{"app"}, Nodes: 2, Tasks: 3, User: map[string]any{"group": "g"}},
			Jobspec{
				Nodes: 2, Slots: 4, CoresPerSlot: 1, Command: []string{"app"}, User: map[string]json.RawMessage{"group": json.RawMessage(`"g"`)},
			},
			`{"total":3}`,
		},
	} {
		text, err := row.command.Jobspec()
		if err != nil {
			t.Fatal(err)
		}
		var got Jobspec
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(row.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
		var raw struct {
			Version    int
			Tasks      []struct{ Count json.RawMessage }
			Attributes struct{ System map[string]any }
		}
		if err := json.Unmarshal(text, &raw); err != nil {
			t.Fatal(err)
		}
		// RFC 25 wants both.
		if _, has := raw.Attributes.System["duration"]; raw.Version != 1 || !has {
			t.Errorf("%s: want version 1 and a duration", text)
		}
		if string(raw.Tasks[0].Count) != row.tasks {
			t.Errorf("tasks %s, want %s", raw.Tasks[0].Count, row.tasks)
		}
	}
	for want, wrong := range map[string]Command{
		"a job needs a command":              {},
		"3 tasks on 4 nodes":                 {Args: []string{"app"}, Nodes: 4, Tasks: 3},
		"Nodes of a job is -1":               {Args: []string{"app"}, Nodes: -1},
		"has to say how many":                {Args: []string{"app"}, Exclusive: true},
		"duration -1s of a job is negative":  {Args: []string{"app"}, Duration: -time.Second},
		"CoresPerTask of a job is 214748364": {Args: []string{"app"}, CoresPerTask: 1 << 31},
		`jobspec of "app": `:                 {Args: []string{"app"}, User: map[string]any{"x": func() {}}},
	} {
		if _, err := wrong.Jobspec(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestCountsOfLaterJobspecs(t *testing.T) {
	t.Parallel()
	for count, want := range map[string]int{
		`4`: 4, `{"min":2,"max":4,"operator":"+","operand":1}`: 2, `"3-5"`: 3, `"2+"`: 2, `"7,9"`: 7,
	} {
		var got Jobspec
		text := `{"resources":[{"type":"node","count":` + count + `,"with":[{"type":"slot","count":1}]}]}`
		if err := json.Unmarshal([]byte(text), &got); err != nil || got.Nodes != want {
			t.Errorf("count %s: %d nodes, %v; want %d", count, got.Nodes, err, want)
		}
	}
	for _, count := range []string{`-1`, `"x"`, `[]`, `true`, `2147483648`, `1.5`, `{"max":1}`} {
		var got Jobspec
		if err := json.Unmarshal([]byte(`{"resources":[{"type":"node","count":`+count+`}]}`), &got); err == nil {
			t.Errorf("count %s: %+v, want an error", count, got)
		}
	}
	var got Jobspec
	many := `{"resources":[{"type":"node","count":2147483647,"with":[{"type":"slot","count":2147483647}]}]}`
	if err := json.Unmarshal([]byte(many), &got); err == nil {
		t.Errorf("%+v, want that it is too many", got)
	}
}

// TestSignNone holds the envelope against the description in RFC 15: header and payload in base 64, and the word none.
func TestSignNone(t *testing.T) {
	t.Parallel()
	const want = "dmVyc2lvbgBpMQB1c2VyaWQAaTEwMDAAbWVjaGFuaXNtAHNub25lAA==.e30=.none"
	if got := SignNone([]byte("{}"), 1000); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestUrgencies(t *testing.T) {
	t.Parallel()
	client, err := New(Options{URI: "local:///x"})
	if err != nil {
		t.Fatal(err)
	}
	for _, urgency := range []int{-1, 32} {
		if _, err := client.Submit(t.Context(), []byte("{}"), SubmitOptions{Urgency: &urgency}); err == nil {
			t.Errorf("a submission with urgency %d: want an error", urgency)
		}
		if _, err := client.SetUrgency(t.Context(), 1, urgency); err == nil {
			t.Errorf("urgency %d: want an error", urgency)
		}
	}
	if err := client.Close(); err != nil {
		t.Error(err)
	}
}

// FuzzReplies reads a payload as that of each topic.
func FuzzReplies(f *testing.F) {
	for _, row := range replies {
		f.Add(wire.Text(row.text))
	}
	f.Add([]byte(`{"id":1,"events":[{"timestamp":1e300,"name":"exception","context":{"type":"x","severity":0}}],"jobspec":{"tasks":[{"command":"x"}]}}`))
	topics := make([]string, 0, len(decoders))
	for topic := range decoders {
		topics = append(topics, topic)
	}
	slices.Sort(topics)
	f.Fuzz(func(t *testing.T, payload []byte) {
		for _, topic := range topics {
			value, err := decoders[topic](payload)
			if err != nil {
				continue
			}
			switch value := value.(type) {
			case JournalEntry:
				readEvents(t, &value)
			case ResourceStatus:
				if !value.DrainedWith("mine").Minus(value.Drained()).Empty() {
					t.Fatalf("%+v: more is drained with a reason than with any", value)
				}
			case allocated:
				if value.set.Ranks().Empty() && value.set.Cores() > 0 {
					t.Fatalf("%+v: cores without a rank", value)
				}
			}
		}
	})
}

// readEvents reads all that an entry of a journal says.
func readEvents(t *testing.T, entry *JournalEntry) {
	t.Helper()
	if state, err := entry.State(); err == nil && state == 0 {
		t.Fatalf("%+v has no state", entry)
	}
	if entry.Jobspec != nil {
		if entry.Jobspec.Nodes < 0 || entry.Jobspec.Slots < 0 || entry.Jobspec.CoresPerSlot < 0 || entry.Jobspec.Duration < 0 {
			t.Fatalf("%+v asks for less than nothing", entry.Jobspec)
		}
		_ = entry.Jobspec.UserText("group")
	}
	for i := range entry.Events {
		event := &entry.Events[i]
		// Whatever they say, they do not panic.
		_, _ = event.Exception()
		_, _ = event.Finished()
		_, _ = event.Released()
		_, _ = event.Submitted()
		_, _ = event.Priority()
	}
}
