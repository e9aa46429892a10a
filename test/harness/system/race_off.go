//go:build !race

package system

// raceDetector tells whether this program was built with the race detector.
const raceDetector = false
