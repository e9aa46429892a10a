// Package admission judges what users write, before it is stored: MiniClusters that are to be managed, and NodePools. What
// can never work is refused at once with the field, its value and what would be right; what works but not as it may be
// wanted is told by a warning. A managed MiniCluster also gets what marks its pods (prepare.go), and a file that is applied to it is not
// followed where that would undo what was done since (files.go).
//
// The examinations are pure functions: create.go and update.go for MiniClusters, with what others would drop or refuse in
// unsupported.go and limits.go, and nodepool.go. The webhooks around them are in webhook.go, what they know of NodePools and namespaces in
// lookup.go, what is counted and logged in metrics.go. The webhook that gives pods their scheduling gate is in gate.go; only an API
// server too old for a policy that does so asks it.
//
// Only objects of those who have opted in reach the webhooks, and for these they fail closed: the conditions in
// manifests/controller/admission.yaml say when the API server asks. Of an update only what it changes is judged, so that
// an object which was there before stays editable; one that becomes managed by it is judged as a whole.
package admission
