package endpoint

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/job"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/minicluster"
)

func TestParseAmount(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		action, payload string
		want            string
	}{
		"as ensemble-python sends it":    {"grow", `{"version":"v1alpha2","group":"flux-framework.org","grow":3}`, "3"},
		"a shrink":                       {"shrink", `{"version":"v1alpha2","group":"flux-framework.org","shrink":2}`, "2"},
		"a number in a string":           {"grow", `{"grow":"4"}`, "4"},
		"a number in a string, padded":   {"grow", `{"grow":" 4 "}`, "4"},
		"a whole number with a fraction": {"grow", `{"grow":2.0}`, "2"},
		"a negative shrink":              {"shrink", `{"shrink":-2}`, "2"},
		"no number":                      {"grow", `{"group":"flux-framework.org"}`, "1"},
		"a null":                         {"grow", `{"grow":null}`, "1"},
		"no payload":                     {"grow", ``, "1"},
		"fields that are not known":      {"grow", `{"grow":2,"why":"because"}`, "2"},
		"an empty group":                 {"grow", `{"grow":2,"group":""}`, "2"},

		"no action":           {"", `{}`, `action is ""; the actions are "grow" and "shrink"`},
		"an unknown action":   {"Grow", `{}`, `action is "Grow"; the actions are "grow" and "shrink"`},
		"a huge action":       {strings.Repeat("x", 1<<16), `{}`, `action is "` + strings.Repeat("x", 40) + `..."; the actions are`},
		"nothing":             {"grow", `{"grow":0}`, `payload field "grow" is 0; it has to be a whole number from 1 to 2147483647`},
		"a negative growth":   {"grow", `{"grow":-3}`, `payload field "grow" is -3; it has to be`},
		"a fraction":          {"grow", `{"grow":1.5}`, `payload field "grow" is 1.5; it has to be`},
		"too much":            {"grow", `{"grow":2147483648}`, `payload field "grow" is 2147483648; it has to be`},
		"much too much":       {"grow", `{"grow":1e300}`, `payload field "grow" is 1e300; it has to be`},
		"the least shrink":    {"shrink", `{"shrink":-9223372036854775808}`, `payload field "shrink" is -9223372036854775808; it has to be`},
		"a word":              {"grow", `{"grow":"many"}`, `payload field "grow" is "many"; it has to be`},
		"no number, in words": {"grow", `{"grow":"NaN"}`, `payload field "grow" is "NaN"; it has to be`},
		"a list":              {"grow", `{"grow":[1]}`, `payload field "grow" is [1]; it has to be`},
		"a truth":             {"grow", `{"grow":true}`, `payload field "grow" is true; it has to be`},
		"a foreign group": {
			"grow", `{"group":"example.com"}`, `payload field "group" is "example.com"; MiniClusters have "flux-framework.org"`,
		},
		"a foreign version":  {"grow", `{"version":"v9"}`, `payload field "version" is "v9"; MiniClusters have "v1alpha2"`},
		"a group in numbers": {"grow", `{"group":7}`, `payload field "group" is 7; MiniClusters have "flux-framework.org"`},
		"no JSON":            {"grow", `grow 3`, `payload is not a JSON object such as {"grow": 1}`},
		"a JSON number":      {"grow", `3`, `payload is not a JSON object such as {"grow": 1}`},
		"two objects":        {"grow", `{"grow":1}{"grow":2}`, `payload has text after its JSON object`},
		"a huge payload": {
			"grow", `{"grow":1,"x":"` + strings.Repeat("x", maxPayloadBytes) + `"}`, "payload has 16401 bytes; at most 16384 are read",
		},
		"a request with a name": {"grow", `{"grow":2,"id":"8a1c.1-grow_7"}`, "2 called 8a1c.1-grow_7"},
		"no name":               {"grow", `{"grow":2,"id":null}`, "2"},
		"an empty name":         {"grow", `{"grow":2,"id":""}`, `payload field "id" is ""; it has to be a string of 1 to 64 letters`},
		"a name with a space":   {"grow", `{"grow":2,"id":"a b"}`, `payload field "id" is "a b"; it has to be`},
		"a name that is too long": {
			"grow", `{"grow":2,"id":"` + strings.Repeat("x", 65) + `"}`, `payload field "id" is "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...; it has to be`,
		},
		"a name in numbers": {"grow", `{"grow":2,"id":7}`, `payload field "id" is 7; it has to be`},
		"a huge number": {
			"grow", `{"grow":` + strings.Repeat("9", 100) + `}`,
			`payload field "grow" is 9999999999999999999999999999999999999999...; it has to be`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			change, err := parseChange(member.Kinds{minicluster.Kind{}}, nil, row.action, row.payload)
			var got string
			switch {
			case err != nil:
				got = err.Error()
			case change.id != "":
				got = fmt.Sprintf("%d called %s", change.amount, change.id)
			default:
				got = fmt.Sprint(change.amount)
			}
			if got != row.want && (err == nil || !strings.HasPrefix(got, row.want)) {
				t.Errorf("got  %s\nwant %s", got, row.want)
			}
		})
	}
}

// TestVersionOfOneKind: the group and the version that a payload names are those of one kind, not each of another.
func TestVersionOfOneKind(t *testing.T) {
	t.Parallel()
	kinds := member.Kinds{minicluster.Kind{}, job.Kind{}}
	for payload, want := range map[string]string{
		`{"grow":2,"group":"flux-framework.org","version":"v1alpha2"}`: "",
		`{"grow":2,"group":"batch","version":"v1"}`:                    "",
		`{"grow":2,"group":"batch"}`:                                   "",
		`{"grow":2,"group":"","version":"v1"}`:                         "",
		`{"grow":2,"group":"batch","version":"v1alpha2"}`:              `payload field "version" is "v1alpha2"; Jobs have "v1"`,
		`{"grow":2,"group":"flux-framework.org","version":"v1"}`:       `payload field "version" is "v1"; MiniClusters have "v1alpha2"`,
		`{"grow":2,"group":"apps","version":"v1"}`: `payload field "group" is "apps"; MiniClusters have "flux-framework.org", ` +
			`Jobs have "batch"`,
	} {
		change, err := parseChange(kinds, nil, actionGrow, payload)
		switch {
		case want == "" && (err != nil || change.amount != 2):
			t.Errorf("%s is %v, %v", payload, change, err)
		case want != "" && (err == nil || err.Error() != want):
			t.Errorf("%s is %v, %v, not %s", payload, change, err, want)
		}
	}
}

func FuzzParseAmount(f *testing.F) {
	f.Add("grow", `{"grow":1,"id":"a-1"}`)
	f.Add("grow", `{"grow":"3"}`)
	f.Add("shrink", `{"shrink":-3}`)
	f.Fuzz(func(t *testing.T, action, payload string) {
		groups := []v1alpha1.MemberGroup{{Name: "leader"}, {Name: "workers"}}
		change, err := parseChange(member.Kinds{minicluster.Kind{}}, groups, action, payload)
		if err == nil && (change.amount < 1 || len(change.id) > 64) {
			t.Errorf("%s %q is %+v", action, payload, change)
		}
	})
}

func TestTarget(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		action                string
		amount, desired, unit int32
		want                  string
	}{
		{actionGrow, 3, 2, 0, "5: the desired size is 5"},
		{actionGrow, 6, 2, 0, "8: the desired size is 8"},
		{actionGrow, 7, 2, 0, "8: limited to 8 by spec.maxSize: grow by 7 was asked for; the desired size is 8"},
		{actionGrow, 2147483647, 2, 0, "8: limited to 8 by spec.maxSize: grow by 2147483647 was asked for"},
		{actionGrow, 1, 8, 0, "denied: the desired size is 8 already, which is spec.maxSize of the MiniCluster"},
		{actionShrink, 1, 4, 0, "3: the desired size is 3"},
		{actionShrink, 9, 4, 0, "2: limited to 2 by spec.minSize: shrink by 9 was asked for; the desired size is 2"},
		{actionGrow, 3, 2, 2, "6: the desired size is 6: grow by 3 was asked for, and pods come and go by 2"},
		{actionGrow, 4, 2, 2, "6: the desired size is 6"},
		{actionGrow, 5, 4, 2, "8: limited to 8 by spec.maxSize: grow by 5 was asked for"},
		{actionShrink, 3, 8, 2, "6: the desired size is 6: shrink by 3 was asked for"},
		{actionShrink, 1, 4, 2, "denied: shrink by 1 was asked for; the pods of the MiniCluster leave by 2, so that the size stays 4"},
		{actionShrink, 1, 2, 0, "denied: the desired size is 2 already, which is spec.minSize of the MiniCluster"},
	} {
		group := &v1alpha1.MemberGroup{Size: row.desired, MinSize: 2, MaxSize: 8, Unit: row.unit}
		size, reason, err := target(minicluster.Kind{}.Words(), group, row.action, row.amount)
		got := fmt.Sprintf("%d: %s", size, reason)
		if err != nil {
			got = "denied: " + err.Error()
		}
		if !strings.HasPrefix(got, row.want) {
			t.Errorf("%s %d from %d: got %s, want %s", row.action, row.amount, row.desired, got, row.want)
		}
	}
}

// TestGroupOfARequest: the field that names the API group of the workload names a group of pods where there is one of that name.
func TestGroupOfARequest(t *testing.T) {
	t.Parallel()
	groups := []v1alpha1.MemberGroup{{Name: "leader"}, {Name: "workers"}, {Name: "batch"}}
	for payload, want := range map[string]string{
		`{"grow":2,"group":"workers"}`:                                   "2 of workers",
		`{"grow":2,"group":"workers","version":"v1alpha2"}`:              "2 of workers",
		`{"grow":2,"group":"batch"}`:                                     "2 of batch",
		`{"grow":2}`:                                                     "2 of ",
		`{"grow":2,"group":""}`:                                          "2 of ",
		`{"version":"v1alpha2","group":"flux-framework.org","grow":"3"}`: "3 of ",
		`{"grow":2,"group":"others"}`:                                    `payload field "group" is "others"; the groups of pods are leader, workers, batch`,
		`{"grow":2,"group":7}`:                                           `payload field "group" is 7; the groups of pods are leader, workers, batch`,
	} {
		change, err := parseChange(member.Kinds{minicluster.Kind{}}, groups, actionGrow, payload)
		var got string
		if err != nil {
			got = err.Error()
		} else {
			got = fmt.Sprintf("%d of %s", change.amount, change.group)
		}
		if got != want {
			t.Errorf("%s is %q, not %q", payload, got, want)
		}
	}
	one := []v1alpha1.MemberGroup{{}}
	if change, err := parseChange(member.Kinds{minicluster.Kind{}}, one, actionGrow, `{"grow":2,"group":"workers"}`); err == nil {
		t.Errorf("a member with one group is asked for %+v", change)
	}
}
