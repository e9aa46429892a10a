package e2e

// auditPolicy makes the API server record every request of provider and controller, and nothing else.
const auditPolicy = `
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  users:
  - system:serviceaccount:ensemble-autoscaler-system:provider
  - system:serviceaccount:ensemble-autoscaler-system:controller
- level: None
`
