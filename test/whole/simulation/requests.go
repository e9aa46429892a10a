package simulation

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Request is one row of a trace: what a member asks for, and when.
type Request struct {
	// Line is that of the file.
	Line int
	// At is when it is asked for, since the beginning of the trace.
	At time.Duration
	// Member is who asks.
	Member string
	// Grows is set for a request to grow, unset for one to shrink.
	Grows bool
	// Amount is by how many pods.
	Amount int32
	// Work is what the pods that a growth adds have to do together, in pod-seconds. It begins when all of them run.
	Work float64
}

// columns are those of a trace. The last one may be missing.
var columns = []string{"time", "member", "action", "amount", "work"}

// ReadRequests reads a trace: a CSV with the header time,member,action,amount and, if wanted, work. The error names the
// line, the field, the value and what would be right.
func ReadRequests(r io.Reader) ([]Request, error) {
	in := csv.NewReader(r)
	in.FieldsPerRecord = -1
	in.TrimLeadingSpace = true
	in.Comment = '#'
	header, err := in.Read()
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read the header: %w", err)
	}
	if !slices.Equal(header, columns) && !slices.Equal(header, columns[:4]) {
		return nil, fmt.Errorf("line 1: the header is %q; it must be %q or %q",
			strings.Join(header, ","), strings.Join(columns[:4], ","), strings.Join(columns, ","))
	}
	var requests []Request
	for {
		fields, err := in.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read a request: %w", err)
		}
		line, _ := in.FieldPos(0)
		if len(fields) != len(header) {
			return nil, fmt.Errorf("line %d: there are %d fields; there must be %d: %s", line, len(fields), len(header), strings.Join(header, ","))
		}
		request, err := parse(line, fields)
		if err != nil {
			return nil, err
		}
		if n := len(requests); n > 0 && request.At < requests[n-1].At {
			return nil, fmt.Errorf("line %d: time is %q; it must not be before that of line %d, which is %g", line, fields[0],
				requests[n-1].Line, requests[n-1].At.Seconds())
		}
		requests = append(requests, request)
	}
	if len(requests) == 0 {
		return nil, errors.New("there is no request; there must be one in each line after the header")
	}
	return requests, nil
}

// parse reads the fields of a line.
func parse(line int, fields []string) (Request, error) {
	wrong := func(column int, right string) error {
		return fmt.Errorf("line %d: %s is %q; it must be %s", line, columns[column], fields[column], right)
	}
	request := Request{Line: line, Member: fields[1]}
	at, err := strconv.ParseFloat(fields[0], 64)
	if err != nil || at < 0 || at > 1e7 {
		return request, wrong(0, "a number of seconds from 0 to 10000000")
	}
	request.At = time.Duration(at * float64(time.Second)).Truncate(time.Millisecond)
	if request.Member == "" || strings.ContainsAny(request.Member, " \t") {
		return request, wrong(1, "the name of a member, without spaces")
	}
	switch fields[2] {
	case string(grow):
		request.Grows = true
	case string(shrink):
	default:
		return request, wrong(2, "grow or shrink")
	}
	amount, err := strconv.ParseInt(fields[3], 10, 32)
	if err != nil || amount < 1 {
		return request, wrong(3, "a whole number of pods, at least 1")
	}
	request.Amount = int32(amount)
	if len(fields) < len(columns) || fields[4] == "" {
		return request, nil
	}
	request.Work, err = strconv.ParseFloat(fields[4], 64)
	switch {
	case err != nil || request.Work < 0 || request.Work > 1e9:
		return request, wrong(4, "a number of pod-seconds from 0 to 1000000000, or empty")
	case !request.Grows && request.Work > 0:
		return request, wrong(4, "empty for a request to shrink: work is for the pods that a growth adds")
	}
	return request, nil
}
