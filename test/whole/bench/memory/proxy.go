package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
)

// tick is how often a watch is told of what has changed.
const tick = 20 * time.Millisecond

// proxy stands between the programs and the API server. It passes everything on but watches of all pods, which it answers itself: with
// pods that it makes up while it writes them, as it could not hold them either.
type proxy struct {
	server *http.Server
	served chan error
	url    string
	pods   *maker
	count  int
	// rate is how many events each watch is told of in a second.
	rate atomic.Int64
	// told counts the events that watches were told of, begun those of the pods that there are from the beginning.
	told, begun atomic.Int64
	version     atomic.Uint64
	wire        runtime.SerializerInfo
}

// startProxy starts a proxy to the API server of a control plane.
func (b *bench) startProxy() (*proxy, error) {
	config := rest.AnonymousClientConfig(b.plane.AdminConfig())
	transport, err := rest.TransportFor(config)
	if err != nil {
		return nil, fmt.Errorf("connect the proxy to the API server: %w", err)
	}
	target, err := url.Parse(config.Host)
	if err != nil {
		return nil, fmt.Errorf("connect the proxy to the API server: %w", err)
	}
	address, err := b.freeAddress()
	if err != nil {
		return nil, err
	}
	wire, known := runtime.SerializerInfoForMediaType(clientgoscheme.Codecs.SupportedMediaTypes(), runtime.ContentTypeProtobuf)
	if !known {
		return nil, errors.New("client-go knows no protobuf")
	}
	p := &proxy{url: "https://" + address, pods: newMaker(b.nodes, b.jobs), count: b.pods, served: make(chan error, 1), wire: wire}
	// Beyond what the API server has counted to.
	p.version.Store(1 << 40)
	passing := &httputil.ReverseProxy{
		Transport: transport, FlushInterval: -1, ErrorHandler: func(
			w http.ResponseWriter, _ *http.Request, _ error,
		) {
			w.WriteHeader(http.StatusBadGateway)
		},
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) },
	}
	p.server = &http.Server{Addr: address, ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(
		w http.ResponseWriter, r *http.Request,
	) {
		if watches, _ := strconv.ParseBool(r.URL.Query().Get("watch")); watches && r.URL.Path == "/api/v1/pods" {
			p.watch(w, r)
			return
		}
		passing.ServeHTTP(w, r)
	})}
	go func() { p.served <- p.server.ListenAndServeTLS(b.file("server.crt"), b.file("server.key")) }()
	return p, nil
}

// stop ends the proxy, and every request with it.
func (p *proxy) stop() error {
	err := p.server.Close()
	if ended := <-p.served; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	return err
}

// watch answers a watch of all pods.
func (p *proxy) watch(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	if !strings.Contains(r.Header.Get("Accept"), runtime.ContentTypeProtobuf) {
		http.Error(w, "watches of pods are answered in protobuf only", http.StatusNotAcceptable)
		return
	}
	ctx := r.Context()
	if seconds, err := strconv.Atoi(query.Get("timeoutSeconds")); err == nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(seconds)*time.Second)
		defer cancel()
	}
	w.Header().Set("Content-Type", runtime.ContentTypeProtobuf+";stream=watch")
	w.WriteHeader(http.StatusOK)
	out := bufio.NewWriterSize(w, 64<<10)
	s := &stream{
		proxy: p, out: p.wire.StreamSerializer.NewFrameWriter(out),
		alive: strings.Contains(query.Get("fieldSelector"), "status.phase!="+string(corev1.PodSucceeded)),
	}
	flush := func() error { return errors.Join(out.Flush(), http.NewResponseController(w).Flush()) }
	if initial, _ := strconv.ParseBool(query.Get("sendInitialEvents")); initial {
		if err := s.begin(ctx); err != nil {
			return
		}
	}
	if flush() != nil {
		return
	}
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	due := 0.0
	for last := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			due += now.Sub(last).Seconds() * float64(p.rate.Load())
			last = now
		}
		if due < 1 {
			continue
		}
		for ; due >= 1; due-- {
			if err := s.next(); err != nil {
				return
			}
			p.told.Add(1)
		}
		if flush() != nil {
			return
		}
	}
}

// stream is one watch.
type stream struct {
	*proxy
	out io.Writer
	// alive is set where pods that have ended are not asked for.
	alive bool
	n     int
	// object and event are what is encoded into.
	event metav1.WatchEvent
}

// begin tells of all pods that there are, and then that these were all.
func (s *stream) begin(ctx context.Context) error {
	for i := range s.count {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := s.tell(watch.Added, s.pods.pod(i, 0, s.version.Add(1))); err != nil {
			return err
		}
		s.begun.Add(1)
	}
	last := &corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}}
	last.ResourceVersion = strconv.FormatUint(s.version.Add(1), 10)
	last.Annotations = map[string]string{metav1.InitialEventsAnnotationKey: "true"}
	return s.tell(watch.Bookmark, last)
}

// next tells of the next change.
func (s *stream) next() error {
	step := stepOf(s.n, s.count)
	s.n++
	kind := watch.Modified
	switch step.kind {
	case stepDelete:
		kind = watch.Deleted
	case stepAdd:
		kind = watch.Added
	}
	return s.tell(kind, s.pods.pod(step.pod, step.turn, s.version.Add(1)))
}

func (s *stream) tell(kind watch.EventType, pod *corev1.Pod) error {
	if s.alive && kind != watch.Bookmark && pod.Status.Phase == corev1.PodSucceeded {
		return nil
	}
	object, err := runtime.Encode(s.wire.Serializer, pod)
	if err != nil {
		return err
	}
	s.event = metav1.WatchEvent{Type: string(kind), Object: runtime.RawExtension{Raw: object}}
	return s.wire.StreamSerializer.Encode(&s.event, s.out)
}
