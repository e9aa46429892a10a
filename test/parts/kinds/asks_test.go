package kinds

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/kubectl-ensemble/plugin"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/ensemble"
)

// ask has the pod of a rank ask for an action, as the kind of a word and a name. It returns what became of it and why.
func (p *play) ask(rank int32, word, name, action string, amount int) (ensemble.Response_ResultType, string) {
	p.Helper()
	version, of := p.subject.kind.GroupVersionKind().Version, p.subject.kind.GroupVersionKind().Group
	pod := p.pod(rank)
	// A kill in the middle would leave it open what became of the request.
	shared.restarting.RLock()
	defer shared.restarting.RUnlock()
	response, err := shared.Ask(
		p.Context(), pod, func(ctx context.Context, c ensemble.EnsembleOperatorClient) (*ensemble.Response, error) {
			return c.RequestAction(ctx, &ensemble.ActionRequest{
				Member: word, Name: name, Action: action, Payload: fmt.Sprintf(`{"group":%q,"version":%q,%q:%d}`, of, version, action, amount),
			})
		},
	)
	if err != nil {
		p.Fatal(err)
	}
	var payload struct{ Reason string }
	if err := json.Unmarshal([]byte(response.GetPayload()), &payload); err != nil {
		p.Fatal(err)
	}
	return response.GetStatus(), payload.Reason
}

// pod is that of a rank, with an address.
func (p *play) pod(rank int32) (pod *corev1.Pod) {
	p.Helper()
	p.until("there is a pod with an address", func(ctx context.Context) (string, error) {
		pods, err := p.pods(ctx)
		if pod = pods[seat{p.subject.group, rank}]; err != nil || pod == nil || pod.Status.PodIP == "" {
			return fmt.Sprintf("rank %d has none", rank), err
		}
		return "", nil
	})
	return pod
}

// TestAsked: the pods of a workload ask for another size of it, and of no other. What bounds them is said in the words of its kind.
func TestAsked(t *testing.T) {
	t.Parallel()
	for i := range subjects {
		words := subjects[i].kind.Words()
		t.Run(words.Kind, func(t *testing.T) {
			t.Parallel()
			p := begin(t, &subjects[i], "asked", "1s", 0)
			p.runs(2)
			word := words.Callers[0]
			for _, row := range []struct {
				name, action string
				amount       int
				status       ensemble.Response_ResultType
				says         string
				size         int
			}{
				{"m", "grow", 2, ensemble.Response_SUCCESS, "the desired size is 4", 4},
				{"m", "shrink", 1, ensemble.Response_SUCCESS, "the desired size is 3", 3},
				{"m", "grow", 9, ensemble.Response_SUCCESS, "limited to 6 by " + words.MaxSize + ": grow by 9 was asked for", 6},
				{"m", "grow", 1, ensemble.Response_DENIED, "the desired size is 6 already, which is " + words.MaxSize + " of the " + words.Kind, 6},
				{"n", "grow", 1, ensemble.Response_DENIED, "belongs to " + words.Kind + ` "m" and may speak for that one only, not for "n"`, 6},
			} {
				status, reason := p.ask(0, word, row.name, row.action, row.amount)
				if status != row.status || !strings.Contains(reason, row.says) {
					t.Errorf("%s %s by %d is answered %s: %s; not %s with %q", row.action, row.name, row.amount, status, reason, row.status, row.says)
				}
				p.runs(row.size)
			}
			p.tells(word, p.pod(5), 6)
		})
	}
}

// tells waits until a pod is told that its workload has a size, and that all its nodes are Ready and in use.
func (p *play) tells(word string, pod *corev1.Pod, size int) {
	p.Helper()
	p.until("the status tells of the size", func(ctx context.Context) (string, error) {
		shared.restarting.RLock()
		defer shared.restarting.RUnlock()
		response, err := shared.Ask(ctx, pod, func(ctx context.Context, c ensemble.EnsembleOperatorClient) (*ensemble.Response, error) {
			return c.RequestStatus(ctx, &ensemble.StatusRequest{Member: word, Name: "m"})
		})
		if err != nil {
			return "", err
		}
		var told struct {
			Nodes struct {
				Up   int `json:"node_up_count"`
				Free int `json:"node_free_count"`
			}
			Resize struct{ Wants, Has, Reserved int }
		}
		if err := json.Unmarshal([]byte(response.GetPayload()), &told); err != nil {
			return "", err
		}
		resize := &told.Resize
		if told.Nodes.Up != size || told.Nodes.Free != 0 || resize.Wants != size || resize.Has != size || resize.Reserved != size {
			return response.GetPayload(), nil
		}
		return "", nil
	})
}

// plugin is what kubectl ensemble says.
func (p *play) plugin(arguments ...string) (string, error) {
	var out bytes.Buffer
	cmd := plugin.New(genericiooptions.IOStreams{In: strings.NewReader(""), Out: &out, ErrOut: &out}, "test")
	cmd.SetArgs(append(arguments, "--kubeconfig="+shared.Kubeconfig, "--namespace="+p.name))
	err := cmd.ExecuteContext(p.Context())
	return out.String(), err
}

// TestPlugin: kubectl ensemble takes KIND/NAME for the member of a workload, and says what bounds it in the words of its kind.
func TestPlugin(t *testing.T) {
	t.Parallel()
	for i := range subjects {
		words := subjects[i].kind.Words()
		t.Run(words.Kind, func(t *testing.T) {
			t.Parallel()
			p := begin(t, &subjects[i], "plugin", "1s", 0)
			p.runs(2)
			name := words.Callers[0] + "/m"
			for _, row := range []struct {
				arguments []string
				says      string
				size      int
			}{
				{[]string{"grow", name, "2", "--wait"}, "the desired size is 4, it was 2", 4},
				{[]string{"explain", name}, "it waits for nothing: 4 of 4 pods run", 4},
				{[]string{"status"}, "\n" + p.memberKey().Name + " ", 4},
				{[]string{"plan", name, "--grow", "1"}, p.memberKey().String() + " would get size 5", 4},
				{[]string{"scale", name, "--size=9"}, "it has to be from 1 to 6, which are " + words.MinSize + " and " + words.MaxSize + " of " +
					words.Kind + " m", 4},
				{[]string{"scale", name, "--size=3", "--wait"}, "the desired size is 3, it was 4", 3},
				{[]string{"shrink", name, "9", "--wait"}, words.MinSize, 1},
				{[]string{"shrink", name, "1"}, "the desired size is 1 already, which is " + words.MinSize + " of " + words.Kind + " m", 1},
				{[]string{"explain", words.Callers[0] + "/n"}, "no member is called", 1},
			} {
				out, err := p.plugin(row.arguments...)
				if err != nil {
					out += err.Error()
				}
				if !strings.Contains(out, row.says) {
					t.Errorf("kubectl ensemble %s says\n%s\nwithout %q", strings.Join(row.arguments, " "), out, row.says)
				}
				p.runs(row.size)
			}
		})
	}
}
