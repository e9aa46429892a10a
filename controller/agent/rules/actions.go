package rules

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/ensemblefile"
)

// maxActions is how many actions a program may want done at once.
const maxActions = 100

// ReadActions reads what the program of a custom action has written: nothing, one action or a list of them, in JSON, each with the keys
// name, label and value as in the file. An error names the action, its value and what would be right.
func ReadActions(file *ensemblefile.File, output []byte) ([]ensemblefile.Action, error) {
	output = bytes.TrimSpace(output)
	if len(output) == 0 || string(output) == "null" {
		return nil, nil
	}
	if output[0] != '[' {
		output = slices.Concat([]byte{'['}, output, []byte{']'})
	}
	var raw []struct {
		Name  string       `json:"name"`
		Label string       `json:"label"`
		Value *json.Number `json:"value"`
	}
	decoder := json.NewDecoder(bytes.NewReader(output))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&raw); err != nil {
		return nil, fmt.Errorf(`the output must be actions in JSON such as {"name": "submit", "label": "sleep"}: %w`, err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("the output must be one action or one list of them, and there is more")
	}
	if len(raw) > maxActions {
		return nil, fmt.Errorf("the output has %d actions, and may have %d", len(raw), maxActions)
	}
	out := make([]ensemblefile.Action, 0, len(raw))
	for i, r := range raw {
		action := ensemblefile.Action{Name: r.Name, Label: r.Label, Repetitions: 1}
		switch Verb(r.Name) {
		case Submit:
			if !slices.ContainsFunc(file.Jobs, func(j ensemblefile.Job) bool { return j.Name == r.Label }) {
				return nil, fmt.Errorf("[%d].label is %q; it has to name a job of the file", i, r.Label)
			}
		case Grow, Shrink:
			action.Value = 1
			if r.Value != nil {
				value, err := r.Value.Int64()
				if Verb(r.Name) == Shrink && value < 0 {
					value = -value
				}
				if err != nil || value < 1 || value > math.MaxInt32 {
					return nil, fmt.Errorf("[%d].value is %q; it has to be a whole number from 1 to %d", i, *r.Value, math.MaxInt32)
				}
				action.Value = int32(value)
			}
		case Terminate:
		default:
			return nil, fmt.Errorf("[%d].name is %q; it has to be one of %s", i, r.Name,
				strings.Join([]string{string(Grow), string(Shrink), string(Submit), string(Terminate)}, ", "))
		}
		out = append(out, action)
	}
	return out, nil
}
