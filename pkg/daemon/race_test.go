//go:build race

package daemon_test

// hasDetector says whether the tests are built with the race detector.
const hasDetector = true
