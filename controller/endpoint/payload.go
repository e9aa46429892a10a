package endpoint

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
)

// maxPayloadBytes bounds what is parsed. Real payloads have less than a hundred bytes.
const maxPayloadBytes = 16 << 10

// The actions of a member.
const (
	actionGrow   = "grow"
	actionShrink = "shrink"
)

// change is a change of size that a member asks for.
type change struct {
	// action is actionGrow or actionShrink, amount by how many pods.
	action string
	amount int32
	// group is the group of pods that is meant, empty where the member names none.
	group string
	// id is what the member calls the request, empty where it does not.
	id string
}

// parseChange reads how a member wants to change its size, or that of one of its groups of pods, where it has several. What is accepted is
// what real members send: the number may be missing (1), a string of digits, and a shrink may be negative. The error names the field, its
// value, and what would be right.
func parseChange(kinds member.Kinds, groups []v1alpha1.MemberGroup, action, payload string) (*change, error) {
	if action != actionGrow && action != actionShrink {
		return nil, fmt.Errorf("action is %q; the actions are %q and %q", shortenText(action), actionGrow, actionShrink)
	}
	if len(payload) > maxPayloadBytes {
		return nil, fmt.Errorf("payload has %d bytes; at most %d are read", len(payload), maxPayloadBytes)
	}
	fields := map[string]json.RawMessage{}
	if strings.TrimSpace(payload) != "" {
		decoder := json.NewDecoder(strings.NewReader(payload))
		if err := decoder.Decode(&fields); err != nil {
			return nil, fmt.Errorf(`payload is not a JSON object such as {"%s": 1}: %w`, action, err)
		}
		if decoder.More() {
			return nil, fmt.Errorf("payload has text after its JSON object")
		}
	}
	group, err := takeGroup(kinds, groups, fields)
	if err != nil {
		return nil, err
	}
	if err := checkVersion(kinds, fields); err != nil {
		return nil, err
	}
	c := &change{action: action, amount: 1, group: group}
	if raw := fields[action]; given(raw) {
		if c.amount, err = parseNumber(action, raw); err != nil {
			return nil, err
		}
	}
	if raw := fields[fieldID]; given(raw) {
		if c.id, err = parseID(raw); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// given reports whether a field of a payload is there and not null.
func given(raw json.RawMessage) bool { return len(raw) > 0 && !bytes.Equal(raw, []byte("null")) }

// fieldID is the field of a payload that has what the member calls its request. Published clients have none; ours has, and may ask again
// without harm.
const fieldID = "id"

var validID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

func parseID(raw json.RawMessage) (string, error) {
	var id string
	if json.Unmarshal(raw, &id) != nil || !validID.MatchString(id) {
		return "", fmt.Errorf(
			"payload field %q is %s; it has to be a string of 1 to 64 letters, digits, dots, dashes and underscores", fieldID, shorten(raw),
		)
	}
	return id, nil
}

// fieldGroup names a group of pods, or, as ensemble-python sends it, the API group of the workload.
const fieldGroup = "group"

// takeGroup takes the name of a group of pods out of a payload, empty for none. Of a member with one group the field is nothing but the API
// group of the workload.
func takeGroup(kinds member.Kinds, groups []v1alpha1.MemberGroup, fields map[string]json.RawMessage) (string, error) {
	raw, has := fields[fieldGroup]
	if !has || len(groups) < 2 {
		return "", nil
	}
	var name string
	if err := json.Unmarshal(raw, &name); err != nil {
		return "", fmt.Errorf("payload field %q is %s; the groups of pods are %s", fieldGroup, shorten(raw), namesOf(groups))
	}
	if slices.ContainsFunc(groups, func(g v1alpha1.MemberGroup) bool { return g.Name == name }) {
		delete(fields, fieldGroup)
		return name, nil
	}
	if name == "" || slices.ContainsFunc(kinds, func(kind member.Kind) bool { return kind.GroupVersionKind().Group == name }) {
		return "", nil
	}
	return "", fmt.Errorf("payload field %q is %s; the groups of pods are %s", fieldGroup, shorten(raw), namesOf(groups))
}

// namesOf are the names of groups in words.
func namesOf(groups []v1alpha1.MemberGroup) string {
	names := make([]string, len(groups))
	for i := range groups {
		names[i] = groups[i].Name
	}
	return strings.Join(names, ", ")
}

// checkVersion makes sure that what a payload says of the workload is so of one of the kinds: its group and its version are those of the
// same one.
func checkVersion(kinds member.Kinds, fields map[string]json.RawMessage) error {
	for _, field := range []struct {
		name string
		of   func(schema.GroupVersionKind) string
	}{
		{fieldGroup, func(kind schema.GroupVersionKind) string { return kind.Group }},
		{"version", func(kind schema.GroupVersionKind) string { return kind.Version }},
	} {
		raw, has := fields[field.name]
		if !has {
			continue
		}
		var got string
		wrong := json.Unmarshal(raw, &got) != nil
		var fitting member.Kinds
		right := make([]string, len(kinds))
		for i, kind := range kinds {
			want := field.of(kind.GroupVersionKind())
			right[i] = fmt.Sprintf("%s have %q", kind.Words().Kinds, want)
			if !wrong && (got == want || got == "") {
				fitting = append(fitting, kind)
			}
		}
		if len(fitting) == 0 {
			return fmt.Errorf("payload field %q is %s; %s", field.name, shorten(raw), strings.Join(right, ", "))
		}
		kinds = fitting
	}
	return nil
}

func parseNumber(action string, raw json.RawMessage) (int32, error) {
	text := string(raw)
	var quoted string
	if json.Unmarshal(raw, &quoted) == nil {
		text = strings.TrimSpace(quoted)
	}
	wrong := func(right string) error {
		return fmt.Errorf("payload field %q is %s; it has to be %s", action, shorten(raw), right)
	}
	number, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		// A whole number may be written with a fraction of zero.
		float, floatErr := strconv.ParseFloat(text, 64)
		if floatErr != nil || float != math.Trunc(float) || math.Abs(float) > math.MaxInt32 {
			return 0, wrong(fmt.Sprintf("a whole number from 1 to %d", math.MaxInt32))
		}
		number = int64(float)
	}
	if action == actionShrink && number < 0 && number != math.MinInt64 {
		// Members mean the same by -2 and by 2.
		number = -number
	}
	if number < 1 || number > math.MaxInt32 {
		return 0, wrong(fmt.Sprintf("a whole number from 1 to %d", math.MaxInt32))
	}
	return int32(number), nil
}

// shorten keeps a value that is quoted in a message readable.
func shorten(raw json.RawMessage) string { return shortenText(string(raw)) }

func shortenText(text string) string {
	const most = 40
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + "..."
	}
	return text
}
