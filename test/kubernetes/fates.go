package main

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// What becomes of a pod is asked for by the tag of its image, or by annotations: the same words with the same meaning as
// in the sandbox cluster (packages/sandbox/src/faults.ts), so that one test can run on both.
const (
	readyAfterAnnotation = "sandbox.cdaas/ready-after"
	crashAfterAnnotation = "sandbox.cdaas/crash-after"

	slowReadyAfter  = 3 * time.Second
	usualCrashAfter = time.Second
)

type fate struct {
	// badImage: its image cannot be pulled. neverReady: its containers run and its readiness probe fails.
	badImage, neverReady bool
	// readyAfter counts from when the pod is first seen on its node.
	readyAfter time.Duration
	// crashAfter counts from when it is ready; nil where it does not crash.
	crashAfter *time.Duration
}

func fateOf(pod *corev1.Pod, usualReadyAfter time.Duration) fate {
	var tags []string
	for _, container := range pod.Spec.Containers {
		tags = append(tags, tagOf(container.Image))
	}
	asked := func(word string) bool { return strings.Contains(strings.Join(tags, " "), word) }
	decided := fate{neverReady: asked("never-ready"), badImage: asked("bad-image"), readyAfter: usualReadyAfter}
	if asked("slow") {
		decided.readyAfter = slowReadyAfter
	}
	if asked("crash") {
		after := usualCrashAfter
		decided.crashAfter = &after
	}
	if after, err := time.ParseDuration(pod.Annotations[readyAfterAnnotation]); err == nil {
		decided.readyAfter = after
	}
	if after, err := time.ParseDuration(pod.Annotations[crashAfterAnnotation]); err == nil {
		decided.crashAfter = &after
	}
	return decided
}

// tagOf answers the tag of an image reference, "latest" where it has none. A port of the registry is no tag.
func tagOf(image string) string {
	name, _, _ := strings.Cut(image[strings.LastIndex(image, "/")+1:], "@")
	if _, tag, found := strings.Cut(name, ":"); found {
		return tag
	}
	return "latest"
}
