package flux

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"syscall"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/flux/wire"
)

// AnyRank asks for the nearest broker that has a service.
const AnyRank = wire.AnyRank

// Names of attributes of a broker.
const (
	AttributeRank     = "rank"
	AttributeSize     = "size"
	AttributeOwner    = "security.owner"
	AttributeVersion  = "version"
	AttributeHostList = "hostlist"
	// AttributeUUID is another one each time the broker is started.
	AttributeUUID = "broker.uuid"
	// AttributeStartTime is in seconds since 1970.
	AttributeStartTime = "broker.starttime"
)

// Attribute reads an attribute of the broker that the Client is connected to. ENOENT says that it has none of that name.
func (c *Client) Attribute(ctx context.Context, name string) (string, error) {
	var response attribute
	if err := c.Call(ctx, AnyRank, "attr.get", map[string]string{"name": name}, &response); err != nil {
		return "", err
	}
	return response.value, nil
}

type attribute struct{ value string }

// UnmarshalJSON reads the response of attr.get.
func (a *attribute) UnmarshalJSON(text []byte) error {
	var read struct {
		Value *string `json:"value"`
	}
	if err := json.Unmarshal(text, &read); err != nil {
		return err
	}
	if read.Value == nil {
		return missing("value")
	}
	a.value = *read.Value
	return nil
}

// Broker is the broker that a Client is connected to.
type Broker struct {
	// Rank is its place in the instance, and Size the number of ranks that there can be.
	Rank, Size uint32
	// Owner is the user whose instance it is.
	Owner uint32
	// Version is that of flux-core, such as 0.88.0.
	Version string
	// Instance is another one each time the broker is started: its UUID, or its start time where it has none.
	Instance string
}

// Broker asks the broker who it is.
func (c *Client) Broker(ctx context.Context) (*Broker, error) {
	var broker Broker
	for _, number := range []struct {
		name string
		into *uint32
	}{
		{AttributeRank, &broker.Rank},
		{AttributeSize, &broker.Size},
		{AttributeOwner, &broker.Owner},
	} {
		text, err := c.Attribute(ctx, number.name)
		if err != nil {
			return nil, err
		}
		value, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return nil, &ReplyError{Topic: "attr.get", Err: fmt.Errorf("attribute %s: %w", number.name, err)}
		}
		*number.into = uint32(value)
	}
	var err error
	if broker.Version, err = c.Attribute(ctx, AttributeVersion); err != nil {
		return nil, err
	}
	for _, name := range []string{AttributeUUID, AttributeStartTime} {
		broker.Instance, err = c.Attribute(ctx, name)
		if err == nil {
			return &broker, nil
		}
		if !errors.Is(err, syscall.ENOENT) {
			return nil, err
		}
	}
	return nil, &ReplyError{Topic: "attr.get", Err: fmt.Errorf("neither %s nor %s is there", AttributeUUID, AttributeStartTime)}
}

// WaitRunning waits until the broker has all its services: a program that Flux itself did not start may come before them. ENOENT says that
// the broker is on its way out. The wait ends with the context, or with Options.CallTimeout.
func (c *Client) WaitRunning(ctx context.Context) error {
	return c.Call(ctx, AnyRank, "state-machine.wait", nil, nil)
}
