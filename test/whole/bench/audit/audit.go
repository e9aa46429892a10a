// Package audit reads what kube-apiserver writes into its audit log, a line for each request that it has answered.
package audit

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
)

// accounts begins the names of the users that provider and controller are.
const accounts = "system:serviceaccount:" + system.Namespace + ":"

// Provider and Controller are the users that the two are.
const (
	Provider   = accounts + "provider"
	Controller = accounts + "controller"
)

// Log is a log that grows.
type Log struct {
	Path string
	// read is how far it was read, in bytes.
	read int64
}

// Record is what a line says.
type Record struct {
	Verb string `json:"verb"`
	User struct {
		Username string `json:"username"`
	} `json:"user"`
	UserAgent string `json:"userAgent"`
	Object    struct {
		Group       string `json:"apiGroup"`
		Resource    string `json:"resource"`
		Subresource string `json:"subresource"`
		Namespace   string `json:"namespace"`
		Name        string `json:"name"`
	} `json:"objectRef"`
	Response struct {
		Code int `json:"code"`
	} `json:"responseStatus"`
	// Received and Answered are when the API server had the request and when it had answered it.
	Received metav1.MicroTime `json:"requestReceivedTimestamp"`
	Answered metav1.MicroTime `json:"stageTimestamp"`
}

// Took is how long the API server had the request.
func (r *Record) Took() time.Duration { return r.Answered.Sub(r.Received.Time) }

// Resource is what was written, with its subresource.
func (r *Record) Resource() string {
	if r.Object.Subresource != "" {
		return r.Object.Resource + "/" + r.Object.Subresource
	}
	return r.Object.Resource
}

// Program is the program that has asked, as it calls itself.
func (r *Record) Program() string {
	program, _, _ := strings.Cut(r.UserAgent, "/")
	return program
}

// Cloud reports whether a write of the provider is the simulated cloud's: what a real cloud keeps in its own memory, and the nodes
// that kubelets register.
func (r *Record) Cloud() bool {
	registers := r.Object.Group == "" && r.Object.Resource == "nodes" && (r.Verb == "create" || r.Verb == "delete")
	return r.User.Username == Provider && (registers || r.Object.Group == v1alpha1.Group && r.Object.Resource == "kwokinstances")
}

// Next are the records since it was asked last.
func (l *Log) Next() (records []Record, err error) {
	file, err := os.Open(l.Path)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the audit log: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if _, err := file.Seek(l.read, io.SeekStart); err != nil {
		return nil, fmt.Errorf("read the audit log: %w", err)
	}
	reader := bufio.NewReader(file)
	for {
		line, err := reader.ReadBytes('\n')
		if err == io.EOF {
			// A line that is half written is read the next time.
			return records, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read the audit log: %w", err)
		}
		l.read += int64(len(line))
		var r Record
		if err := json.Unmarshal(line, &r); err != nil {
			return nil, fmt.Errorf("read %s: %w", l.Path, err)
		}
		records = append(records, r)
	}
}
