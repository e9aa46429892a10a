package history

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/minicluster"
)

// StartAtEtcd records from now on what is stored, as Start does, and reads it from etcd. That is for tests that kill the API
// server: a new one has no versions from before its start, so a watch that was cut off there cannot be resumed, and
// what was stored in between would be missing from the record. url is where etcd serves plain HTTP.
func StartAtEtcd(ctx context.Context, url string) (*Recorder, error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r := &Recorder{cancel: cancel, state: newState(), changed: make(chan struct{})}
	e, err := newEtcd(url)
	if err != nil {
		return nil, errors.Join(err, r.Stop())
	}
	var revision uint64
	for i, k := range storedKinds() {
		found, at, err := e.read(ctx, k, revision)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("read %s from etcd: %w", k.prefix, err), r.Stop())
		}
		if i == 0 {
			revision = at
		}
		for _, object := range found {
			r.listed(object)
		}
	}
	for _, k := range storedKinds() {
		r.running.Go(func() {
			if err := e.watch(ctx, k, revision+1, r.record); ctx.Err() == nil {
				r.fail(fmt.Errorf("watch %s in etcd: %w", k.prefix, err))
			}
		})
	}
	r.running.Go(func() { <-ctx.Done(); e.http.CloseIdleConnections() })
	return r, nil
}

// storedKind is one kind as etcd has it.
type storedKind struct {
	prefix string
	// decode reads an object. Nil is for those of our scheme.
	decode func([]byte) (client.Object, error)
}

func storedKinds() []storedKind {
	ours := "/registry/" + v1alpha1.Group + "/"
	return []storedKind{
		{"/registry/minions/", nil}, // The nodes: the name is from before Kubernetes 1.0.
		{"/registry/pods/", nil},
		{ours + "nodepools/", nil},
		{ours + "poolmachines/", nil},
		{ours + "kwokinstances/", nil},
		{ours + "ensemblemembers/", nil},
		{"/registry/" + minicluster.GroupVersionKind.Group + "/miniclusters/", decodeMiniCluster},
	}
}

func decodeMiniCluster(stored []byte) (client.Object, error) {
	object := minicluster.New()
	return object, object.UnmarshalJSON(stored)
}

// etcd speaks to etcd in JSON over HTTP, which needs no client of its own.
type etcd struct {
	url     string
	http    *http.Client
	decoder runtime.Decoder
}

func newEtcd(url string) (*etcd, error) {
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return nil, fmt.Errorf("register kinds: %w", err)
	}
	return &etcd{
		url: url, http: &http.Client{Transport: &http.Transport{}},
		decoder: serializer.NewCodecFactory(scheme).UniversalDeserializer(),
	}, nil
}

// keyValue is a version of an object. etcd writes 64-bit numbers as strings and bytes in base64.
type keyValue struct {
	Key         []byte `json:"key"`
	Value       []byte `json:"value"`
	ModRevision uint64 `json:"mod_revision,string"`
}

// header is in every answer.
type header struct {
	Revision uint64 `json:"revision,string"`
}

// keys are those that begin with a prefix.
type keys struct {
	Key      []byte `json:"key"`
	RangeEnd []byte `json:"range_end"`
}

func keysOf(prefix string) keys {
	end := []byte(prefix)
	end[len(end)-1]++ // All prefixes end with a slash.
	return keys{[]byte(prefix), end}
}

// read returns the objects of a kind as they were at a revision, or as they are now when that is 0.
func (e *etcd) read(ctx context.Context, k storedKind, at uint64) (objects []client.Object, revision uint64, err error) {
	body, err := e.post(ctx, "/v3/kv/range", struct {
		keys
		Revision uint64 `json:"revision,string"`
	}{keysOf(k.prefix), at})
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	var answer struct {
		Header header     `json:"header"`
		KVs    []keyValue `json:"kvs"`
	}
	if err := json.NewDecoder(body).Decode(&answer); err != nil {
		return nil, 0, err
	}
	for i := range answer.KVs {
		object, err := e.object(k, answer.KVs[i].Value, answer.KVs[i].ModRevision)
		if err != nil {
			return nil, 0, err
		}
		objects = append(objects, object)
	}
	return objects, answer.Header.Revision, nil
}

// watch calls see for every version from a revision on, until the context ends.
func (e *etcd) watch(ctx context.Context, k storedKind, from uint64, see func(object client.Object, deleted bool)) (err error) {
	type create struct {
		keys
		StartRevision uint64 `json:"start_revision,string"`
		PrevKV        bool   `json:"prev_kv"`
	}
	body, err := e.post(ctx, "/v3/watch", struct {
		Create create `json:"create_request"`
	}{create{keysOf(k.prefix), from, true}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	decoder := json.NewDecoder(body)
	for {
		var message struct {
			Error  json.RawMessage `json:"error"`
			Result struct {
				Canceled     bool   `json:"canceled"`
				CancelReason string `json:"cancel_reason"`
				Events       []struct {
					Type   string    `json:"type"` // None for a put.
					KV     keyValue  `json:"kv"`
					PrevKV *keyValue `json:"prev_kv"`
				} `json:"events"`
			} `json:"result"`
		}
		if err := decoder.Decode(&message); err != nil {
			return err
		}
		if message.Error != nil || message.Result.Canceled {
			return fmt.Errorf("etcd ends it: %s%s", message.Error, message.Result.CancelReason)
		}
		for i := range message.Result.Events {
			event := &message.Result.Events[i]
			deleted, stored := event.Type == "DELETE", &event.KV
			if deleted {
				stored = event.PrevKV
			}
			if stored == nil {
				return fmt.Errorf("etcd does not tell what %s was before it was deleted", event.KV.Key)
			}
			object, err := e.object(k, stored.Value, event.KV.ModRevision)
			if err != nil {
				return fmt.Errorf("%s: %w", event.KV.Key, err)
			}
			see(object, deleted)
		}
	}
}

// object reads what the API server has stored.
func (e *etcd) object(k storedKind, stored []byte, revision uint64) (client.Object, error) {
	decode := k.decode
	if decode == nil {
		decode = e.decode
	}
	object, err := decode(stored)
	if err != nil {
		return nil, err
	}
	object.SetResourceVersion(strconv.FormatUint(revision, 10))
	return object, nil
}

func (e *etcd) decode(stored []byte) (client.Object, error) {
	decoded, _, err := e.decoder.Decode(stored, nil, nil)
	if err != nil {
		return nil, err
	}
	object, ok := decoded.(client.Object)
	if !ok {
		return nil, fmt.Errorf("it is a %T", decoded)
	}
	return object, nil
}

// post sends a request and returns the body of the answer.
func (e *etcd) post(ctx context.Context, path string, content any) (io.ReadCloser, error) {
	encoded, err := json.Marshal(content)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url+path, bytes.NewReader(encoded))
	if err != nil {
		return nil, err
	}
	response, err := e.http.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, errors.Join(fmt.Errorf("etcd answers %s", response.Status), response.Body.Close())
	}
	return response.Body, nil
}
