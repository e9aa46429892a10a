package flux

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
)

// Urgencies of jobs. Those between them are allowed too; a guest may give at most UrgencyDefault.
const (
	// UrgencyHold keeps a job from being scheduled until its urgency is changed.
	UrgencyHold = 0
	// UrgencyDefault is that of a job about which nobody said anything.
	UrgencyDefault = 16
	// UrgencyExpedite is that of a job that comes before all others.
	UrgencyExpedite = 31
)

// Flags of a submission.
const (
	// SubmitDebug has events written that help to debug Flux.
	SubmitDebug = 2
	// SubmitNoValidate passes over the validation of the jobspec. Only the owner of the instance may.
	SubmitNoValidate = 8
)

// SubmitOptions say how a job is submitted.
type SubmitOptions struct {
	// Urgency is 0 to 31; nil is UrgencyDefault.
	Urgency *int
	// Flags are a sum of those above.
	Flags int
	// UserID is that of the submitter, which has to be the user of this process or the broker refuses it; nil is that user.
	UserID *uint32
}

// Submit gives a job to the instance and returns its id. jobspec is JSON (Command.Jobspec makes it). It is signed with the mechanism none
// of RFC 15, which Flux takes from the owner of the instance. The journal may tell of the job before Submit returns.
//
// It has no deadline but that of the context: who gives up a submission does not know whether it is carried out yet. After a LostError the
// job may have been submitted all the same: an attribute in jobspec's attributes.user finds it in the journal.
func (c *Client) Submit(ctx context.Context, jobspec []byte, options SubmitOptions) (JobID, error) {
	urgency := UrgencyDefault
	if options.Urgency != nil {
		urgency = *options.Urgency
	}
	if err := checkUrgency(urgency); err != nil {
		return 0, err
	}
	userID := uint32(os.Getuid()) //nolint:gosec // It is what the kernel says, and the kernel says 32 bits.
	if options.UserID != nil {
		userID = *options.UserID
	}
	request := map[string]any{"J": SignNone(jobspec, userID), "urgency": urgency, "flags": options.Flags}
	const topic = "job-ingest.submit"
	var response submitted
	ctx, cancel := c.untilClosed(ctx)
	defer cancel()
	if err := c.await(ctx, AnyRank, topic, request, &response); err != nil {
		return 0, err
	}
	return response.id, nil
}

type submitted struct{ id JobID }

// UnmarshalJSON reads the response of job-ingest.submit.
func (s *submitted) UnmarshalJSON(text []byte) error {
	var read struct {
		ID *JobID `json:"id"`
	}
	if err := json.Unmarshal(text, &read); err != nil {
		return err
	}
	if read.ID == nil {
		return missing("id")
	}
	s.id = *read.ID
	return nil
}

func checkUrgency(urgency int) error {
	if urgency < UrgencyHold || urgency > UrgencyExpedite {
		return fmt.Errorf("urgency %d of a job: it has to be between %d and %d", urgency, UrgencyHold, UrgencyExpedite)
	}
	return nil
}

// SignNone wraps a jobspec in the envelope of RFC 15 with the mechanism none: header and payload in base 64, and the word none. It proves
// nothing; the broker holds the user that it names against that of the connection.
func SignNone(jobspec []byte, userID uint32) string {
	// Pairs of a key and a value, each ended by NUL; the first letter of a value is its type.
	header := "version\x00i1\x00userid\x00i" + strconv.FormatUint(uint64(userID), 10) + "\x00mechanism\x00snone\x00"
	return base64.StdEncoding.EncodeToString([]byte(header)) + "." + base64.StdEncoding.EncodeToString(jobspec) + ".none"
}
