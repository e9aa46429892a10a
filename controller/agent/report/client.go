package report

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/rules"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/ensemble"
)

// Options say whom a Client asks, and for whom.
type Options struct {
	// Address is the host and port of the endpoint.
	Address string
	// Member is what the endpoint calls the kind of the member, such as "miniclusters", and Name the name of the member without its
	// namespace.
	Member, Name string
	Security     Security
}

// Client is an agent.Operator. It connects when it is first used, and again when the connection is lost. It is safe for concurrent use.
type Client struct {
	options Options
	dial    []grpc.DialOption

	mu         sync.Mutex
	connection *grpc.ClientConn
}

var _ agent.Operator = (*Client)(nil)

// New returns a Client.
func New(options Options) (*Client, error) {
	switch {
	case options.Address == "":
		return nil, errors.New("the address of the endpoint is empty; it has to be HOST:PORT")
	case options.Name == "":
		return nil, errors.New("the name of the member is empty; it has to be the name of its MiniCluster")
	}
	host, _, err := net.SplitHostPort(options.Address)
	if err != nil {
		return nil, fmt.Errorf("the address of the endpoint is %q; it has to be HOST:PORT: %w", options.Address, err)
	}
	secured, err := options.Security.dialOptions(host)
	if err != nil {
		return nil, err
	}
	c := &Client{options: options, dial: append(secured, grpc.WithConnectParams(grpc.ConnectParams{
		Backoff: backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 5 * time.Second},
		// As long as a call may take.
		MinConnectTimeout: 5 * time.Second,
	}))}
	c.connection, err = grpc.NewClient(options.Address, c.dial...)
	if err != nil {
		return nil, fmt.Errorf("the address of the endpoint is %q; it has to be HOST:PORT: %w", options.Address, err)
	}
	return c, nil
}

// Close ends the connection.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.connection.Close()
}

// call makes a call. A connection on which nothing comes back in time is replaced: the other side may be gone without a word.
func (c *Client) call(do func(ensemble.EnsembleOperatorClient) (*ensemble.Response, error)) (*ensemble.Response, error) {
	c.mu.Lock()
	connection := c.connection
	c.mu.Unlock()
	response, err := do(ensemble.NewEnsembleOperatorClient(connection))
	if status.Code(err) == codes.DeadlineExceeded {
		err = errors.Join(err, c.replace(connection))
	}
	return response, err
}

func (c *Client) replace(silent *grpc.ClientConn) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.connection != silent {
		return nil
	}
	next, err := grpc.NewClient(c.options.Address, c.dial...)
	if err != nil {
		return err
	}
	c.connection = next
	return silent.Close()
}

// reply is the payload of a reply, as far as the agent reads it.
type reply struct {
	Wants  int32  `json:"wants"`
	Has    int32  `json:"has"`
	Max    int32  `json:"max"`
	Reason string `json:"reason"`
}

func (r *reply) size() *rules.Size {
	if r.Wants == 0 && r.Has == 0 {
		// The endpoint of ensemble-python says nothing.
		return nil
	}
	return &rules.Size{Has: r.Has, Wants: r.Wants, Max: r.Max}
}

// Resize asks for another size.
func (c *Client) Resize(ctx context.Context, request agent.Resize) (agent.Reply, error) {
	action := string(request.Verb)
	fields := map[string]any{action: request.Nodes, "id": request.ID}
	if strings.HasPrefix(c.options.Member, "minicluster") {
		// The endpoint of ensemble-python needs them.
		fields["version"], fields["group"] = "v1alpha2", "flux-framework.org"
	}
	payload, err := json.Marshal(fields)
	if err != nil {
		return agent.Reply{}, err
	}
	response, err := c.call(func(client ensemble.EnsembleOperatorClient) (*ensemble.Response, error) {
		return client.RequestAction(ctx, &ensemble.ActionRequest{
			Member: c.options.Member, Name: c.options.Name, Action: action, Payload: string(payload),
		})
	})
	if err != nil {
		return agent.Reply{}, fmt.Errorf("ask %s to %s by %d: %w", c.options.Address, action, request.Nodes, err)
	}
	said, err := read(response)
	if err != nil {
		return agent.Reply{}, fmt.Errorf("ask %s to %s by %d: %w", c.options.Address, action, request.Nodes, err)
	}
	return agent.Reply{
		Granted: response.GetStatus() == ensemble.Response_SUCCESS || response.GetStatus() == ensemble.Response_UNSPECIFIED,
		Size:    said.size(), Reason: said.Reason,
	}, nil
}

// read reads a reply. One with the status ERROR is an error: the request was malformed, or the endpoint is broken.
func read(response *ensemble.Response) (reply, error) {
	var said reply
	if payload := response.GetPayload(); payload != "" {
		if err := json.Unmarshal([]byte(payload), &said); err != nil && response.GetStatus() != ensemble.Response_ERROR {
			return said, fmt.Errorf("the payload of the reply is no JSON object: %w", err)
		}
	}
	if response.GetStatus() == ensemble.Response_ERROR {
		if said.Reason == "" {
			said.Reason = "no reason is given"
		}
		return said, fmt.Errorf("the endpoint answers ERROR: %s", said.Reason)
	}
	return said, nil
}

// Status asks for the size of the member.
func (c *Client) Status(ctx context.Context) (rules.Size, error) {
	response, err := c.call(func(client ensemble.EnsembleOperatorClient) (*ensemble.Response, error) {
		return client.RequestStatus(ctx, &ensemble.StatusRequest{Member: c.options.Member, Name: c.options.Name})
	})
	if err != nil {
		return rules.Size{}, fmt.Errorf("ask %s for the size: %w", c.options.Address, err)
	}
	said, err := read(response)
	if err != nil {
		return rules.Size{}, fmt.Errorf("ask %s for the size: %w", c.options.Address, err)
	}
	if response.GetStatus() != ensemble.Response_SUCCESS {
		return rules.Size{}, fmt.Errorf("ask %s for the size: it answers %s: %s", c.options.Address, response.GetStatus(), said.Reason)
	}
	var of struct {
		Resize reply `json:"resize"`
	}
	if err := json.Unmarshal([]byte(response.GetPayload()), &of); err != nil || of.Resize.size() == nil {
		return rules.Size{}, fmt.Errorf("ask %s for the size: the payload of the reply does not have it under resize", c.options.Address)
	}
	return *of.Resize.size(), nil
}

// maxWaiting is how many numbers of nodes the endpoint takes.
const maxWaiting = 64

// Report tells the state of the queue.
func (c *Client) Report(ctx context.Context, report agent.Report) error {
	payload, err := json.Marshal(map[string]any{
		"queue": limit(report.Queue), "waiting": waiting(report.Waiting),
		"counts": map[string]int{"nodes_up": report.Nodes.Up, "nodes_free": report.Nodes.Free, "idle_tail": report.Nodes.IdleTail},
	})
	if err != nil {
		return err
	}
	response, err := c.call(func(client ensemble.EnsembleOperatorClient) (*ensemble.Response, error) {
		return client.RequestUpdate(ctx, &ensemble.UpdateRequest{
			Member: c.options.Member, Name: c.options.Name, Payload: string(payload),
		})
	})
	if err != nil {
		return fmt.Errorf("report to %s: %w", c.options.Address, err)
	}
	said, err := read(response)
	if err != nil {
		return fmt.Errorf("report to %s: %w", c.options.Address, err)
	}
	if response.GetStatus() == ensemble.Response_DENIED {
		return fmt.Errorf("report to %s: it is refused: %s", c.options.Address, said.Reason)
	}
	return nil
}

// limit keeps counts to what the endpoint takes.
func limit(counts map[string]int64) map[string]int64 {
	out := make(map[string]int64, len(counts))
	for name, count := range counts {
		out[name] = min(count, math.MaxInt32)
	}
	return out
}

// waiting are jobs by the nodes that they need. Of too many numbers the largest count as the least of them.
func waiting(jobs map[int32]int64) map[string]int64 {
	out := map[string]int64{}
	last := int32(0)
	for _, nodes := range slices.Sorted(maps.Keys(jobs)) {
		if len(out) < maxWaiting {
			last = nodes
		}
		key := strconv.Itoa(int(last))
		out[key] = min(out[key]+jobs[nodes], math.MaxInt32)
	}
	return out
}
