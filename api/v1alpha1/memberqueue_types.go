package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// MemberQueue is what a member has told of its Flux queue. It has the name of the EnsembleMember, which owns it, and is apart from it:
// members tell often, and what they tell must not stand in the way of those who write the record of the nodes. The ensemble endpoint
// writes it, at most as often as its flags allow.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=mq,categories=ensemble-autoscaler
// +kubebuilder:printcolumn:name="WAITING",type=integer,JSONPath=`.queue.jobs.sched`
// +kubebuilder:printcolumn:name="RUNNING",type=integer,JSONPath=`.queue.jobs.run`
// +kubebuilder:printcolumn:name="ENDED",type=integer,JSONPath=`.queue.jobs.inactive`
// +kubebuilder:printcolumn:name="REPORTED",type=date,JSONPath=`.queue.at`
// +kubebuilder:printcolumn:name="BY",type=string,JSONPath=`.queue.by`,priority=1
// +kubebuilder:printcolumn:name="AGE",type=date,JSONPath=`.metadata.creationTimestamp`
type MemberQueue struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Queue is what was told last.
	Queue Queue `json:"queue"`
}

// MemberQueueList is a list of MemberQueues.
//
// +kubebuilder:object:root=true
type MemberQueueList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []MemberQueue `json:"items"`
}

// Queue is the state of a member's Flux queue, as the member told it by RequestUpdate.
type Queue struct {
	// At is when the member told it.
	At metav1.MicroTime `json:"at"`

	// By names who told it.
	// +kubebuilder:validation:MaxLength=512
	By string `json:"by"`

	// Jobs counts the jobs by their Flux states.
	// +optional
	Jobs QueueJobs `json:"jobs,omitempty"`

	// Waiting has the number of waiting jobs by the number of nodes that each of them needs.
	// +optional
	// +kubebuilder:validation:MaxProperties=64
	Waiting map[string]int64 `json:"waiting,omitempty"`

	// Counts are further counts that the member keeps, by their names.
	// +optional
	// +kubebuilder:validation:MaxProperties=64
	Counts map[string]int64 `json:"counts,omitempty"`
}

// QueueJobs counts jobs by their Flux states. The names are those of the first ensemble-operator.
type QueueJobs struct {
	// New jobs have been submitted and not been looked at.
	// +optional
	New int64 `json:"new,omitempty"`
	// Depend is the number of jobs that wait for others.
	// +optional
	Depend int64 `json:"depend,omitempty"`
	// Priority is the number of jobs that wait for their priority.
	// +optional
	Priority int64 `json:"priority,omitempty"`
	// Sched is the number of jobs that wait for resources.
	// +optional
	Sched int64 `json:"sched,omitempty"`
	// Run is the number of jobs that run.
	// +optional
	Run int64 `json:"run,omitempty"`
	// Cleanup is the number of jobs that give their resources back.
	// +optional
	Cleanup int64 `json:"cleanup,omitempty"`
	// Inactive jobs have ended.
	// +optional
	Inactive int64 `json:"inactive,omitempty"`
}
