package nodegroup

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Step is one of the writes in which the decisions of a pass are carried out. A pass may be cut off before, after and in each of them:
// the provider is killed, the API server refuses a write, a live look finds that a cache was behind. The next pass observes again and
// decides by what was written, so each step needs no more than that those before it are written.
type Step int

const (
	// StepStatus records StatusWrite in the status, together with the numbers of the machines that Order will make.
	//
	// It is the first step, for three reasons. A lower floor has to be told to Cluster Autoscaler before the target is lowered, or it
	// raises the target again. A failure has to be recorded before its machine is deleted: afterwards nothing tells of it. And numbers
	// are claimed before the first record has one, so that no name is used twice. Where there is something to order, it has to be made
	// sure first that no record exists that was not observed.
	//
	// A kill after it leaves a floor that is recorded and a target that is not lowered yet, which the next pass does; and numbers that no
	// machine has, which costs nothing.
	StepStatus Step = iota + 1
	// StepMark makes nodes say of themselves what Marks has, each in a write of its own.
	//
	// It needs nothing. What is tainted here goes in a later pass, which sees whether a pod has come to the node before its taint.
	//
	// A kill in it leaves tainted nodes that the target counts: the next pass releases them, or takes the taint off.
	StepMark
	// StepTarget is the one write of spec that Target describes: who goes, and the target that counts them no more.
	//
	// It needs the floor in the status (StepStatus), and the taint of an earlier pass on the node of each machine of Release and Retire. A
	// live look at each of these has to find its node tainted, empty and held by nobody; those of which it does not stay. Before orders
	// are given up, and before names go that may have been on order, it has to be made sure that no record exists that was not observed.
	//
	// A kill after it leaves machines that are named in spec.machinesToDelete and exist: the next pass deletes them.
	StepTarget
	// StepDelete deletes the records of Delete, all of which spec.machinesToDelete named when the pass began.
	//
	// It needs their failures in the status (StepStatus): those that another replica was told of since have to be looked for. That no pod
	// has come to a node before its taint, and that a machine without a node has not registered, is looked for before the machine ends
	// (package machine).
	//
	// A kill in it leaves records of which some are being deleted. Their names stay in spec.machinesToDelete until they are gone.
	StepDelete
	// StepCancel deletes the records of Cancel and Abandon, each only as it was observed: one that has registered since, or that the cloud
	// was asked for, stays.
	//
	// It needs the target that does not count those of Cancel, which an earlier pass or Cluster Autoscaler has written. Before anything is
	// abandoned it has to be made sure that the records which its order lacks do not exist.
	//
	// A kill in it leaves fewer machines than there were, and at least as many as the target counts; those of an order that is abandoned
	// in part are abandoned by the next pass.
	StepCancel
	// StepOrder makes the records of Order.
	//
	// It needs their numbers in the status (StepStatus), and the target as it was observed or as StepTarget has written it.
	//
	// A kill in it leaves an order that lacks records. Nothing of it is launched, and the next pass abandons it.
	StepOrder
	// StepFinish takes the finalizer off the NodePool.
	//
	// It needs that nothing of the pool is left, of which it has to be made sure that no record exists that was not observed.
	StepFinish
)

// Steps are all steps, in the order in which they are taken. What applies decisions walks this list.
func Steps() []Step {
	return []Step{StepStatus, StepMark, StepTarget, StepDelete, StepCancel, StepOrder, StepFinish}
}

// Decisions is what a pass over a pool has decided, by the step that carries it out.
type Decisions struct {
	// StatusWrite is for StepStatus.
	StatusWrite
	// Marks are the nodes whose annotations or taints have to change, for StepMark.
	Marks []Mark
	// TargetWrite is for StepTarget.
	TargetWrite
	// Delete are machines that are to go, for StepDelete.
	Delete []string
	// Cancel are machines that are booting and no longer wanted because the target was lowered, for StepCancel.
	Cancel []string
	// Abandon are machines of orders of which records are missing and that have asked the cloud for nothing, for StepCancel. They are not
	// put into spec.machinesToDelete and the target stays: other names are ordered when they are gone.
	Abandon []string
	// Order is what to order, for StepOrder. Count is the number of names that it needs.
	Order []Order
	// Finish is set when the NodePool is being deleted and nothing of it is left, for StepFinish.
	Finish bool

	// Next is when a pass is due though nothing has changed; zero when none is.
	Next time.Time

	// warm are the machines that stay for the next growth, each with the time until which it does.
	warm map[string]time.Time
}

// StatusWrite is what belongs into the status.
type StatusWrite struct {
	// Floor and Reserved are the number of machines that the claims call for, and of nodes that members claim.
	Floor, Reserved int32
	// OrderedFrom is the first number whose order may be under way.
	OrderedFrom int64

	// Failed names machines that have failed, NewlyFailed those of them that the status does not name yet, and LastFailure is the latest
	// one, that of the machine LastFailed; nil when it is recorded already.
	Failed, NewlyFailed []string
	LastFailure         *Failure
	LastFailed          string

	// Replicas and Ready count the machines and those of them whose nodes are Ready. The condition Ready follows from Conditions and not
	// from Notes; WhenReady is its message where it is True.
	Replicas, Ready   int32
	Conditions, Notes []metav1.Condition
	WhenReady         string
}

// TargetWrite is a write of spec: of the target and of spec.machinesToDelete, from which Gone leave and to which the others are added.
type TargetWrite struct {
	// Raise is the target to set because the pool follows its floor, or 0; RaisedForMembers is the part of it that the floor calls for.
	Raise, RaisedForMembers int32
	// GiveUp is the number of machines by which the target is lowered because they were to be ordered and are not any more: for members
	// who do not want them now, or above a maximum size that is lower now.
	GiveUp int32
	// Release are machines by whose number the target is lowered, if they are free.
	Release []string
	// Retire are machines that go, if they are free, while the target stays: it does not count them any more, or they are to be replaced.
	Retire []string
	// Lost are machines by whose number the target is lowered, as they are: the cloud says that they are no more, whatever is held or runs
	// on their nodes. The target may be below the floor then, until Cluster Autoscaler raises it.
	Lost []string
	// Leave are machines that go as they are while the target stays: those that are taken away, which are replaced before they are gone,
	// and those that are no more and that the target does not count, or that are replaced.
	Leave []string
	// Gone are those of spec.machinesToDelete that exist no more. LookForGone is set where the order of one may have been under way.
	Gone        []string
	LookForGone bool
}

// MovesTarget reports whether the target changes, or what it counts. Names of machines that are gone are no reason to hurry.
func (w *TargetWrite) MovesTarget() bool {
	return w.Raise > 0 || w.GiveUp > 0 || len(w.Release)+len(w.Retire)+len(w.Lost)+len(w.Leave) > 0
}

// ChangesSpec reports whether there is anything to write.
func (w *TargetWrite) ChangesSpec() bool { return w.MovesTarget() || len(w.Gone) > 0 }

// Fewer is the number by which the target is lowered.
func (w *TargetWrite) Fewer() int32 {
	return int32(len(w.Release)+len(w.Lost)) + w.GiveUp //nolint:gosec // At most maxSize.
}
