package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/component-base/version"
	"k8s.io/klog/v2"
)

// The kubelets' part of a pod's life, without containers: a scheduled pod gets an address and runs, its Ready condition
// follows its fate and its readiness gates, and a deleted pod is let go once it has "ended". Everything else (replicas,
// scheduling, endpoints, minReadySeconds) is Kubernetes' own. Nodes send no heartbeats, because the controller that
// would miss them is not run. Kept in memory is only when things are due; a restart asks the fates anew.

type options struct {
	kubeconfig  string
	nodes       int
	podsPerNode int
	readyAfter  time.Duration
	endAfter    time.Duration
}

// Pods are looked at by so many at once: what takes time is the API server's answer.
const concurrentPods = 32

func newKubeletCommand() *cobra.Command {
	var o options
	command := &cobra.Command{
		Use:           "kubelet-stand-in",
		Short:         "Stands in for the kubelets of a few nodes: pods become ready, or not, by the tag of their image",
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          func(command *cobra.Command, _ []string) error { return runKubelet(command.Context(), o) },
	}
	flags := command.Flags()
	flags.StringVar(&o.kubeconfig, "kubeconfig", "", "how to reach the API server")
	flags.IntVar(&o.nodes, "nodes", 3, "how many nodes to register")
	flags.IntVar(&o.podsPerNode, "pods-per-node", 5000, "how many pods a node takes")
	flags.DurationVar(&o.readyAfter, "ready-after", 10*time.Millisecond, "from scheduled to ready, where nothing else is asked for")
	flags.DurationVar(&o.endAfter, "end-after", 20*time.Millisecond, "how long a deleted pod lingers as terminating")
	return command
}

func runKubelet(ctx context.Context, o options) error {
	if ctx == nil {
		ctx = context.Background()
	}
	config, err := clientcmd.BuildConfigFromFlags("", o.kubeconfig)
	if err != nil {
		return err
	}
	config.QPS = -1
	config.UserAgent = "kubelet-stand-in"
	config.ContentType = "application/vnd.kubernetes.protobuf"
	config.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	for number := 1; number <= o.nodes; number++ {
		if err := registerNode(ctx, client, number, o.podsPerNode); err != nil {
			return err
		}
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	pods := factory.Core().V1().Pods()
	k := &kubelet{
		options: o,
		client:  client,
		pods:    pods.Lister(),
		queue:   workqueue.NewTypedDelayingQueue[cache.ObjectName](),
		lives:   map[types.UID]*life{},
	}
	if _, err := pods.Informer().AddEventHandler(k); err != nil {
		return err
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	for range concurrentPods {
		go k.work(ctx)
	}
	<-ctx.Done()
	k.queue.ShutDown()
	return nil
}

// registerNode creates a Node that takes pods, and retries while the API server does not answer yet.
func registerNode(ctx context.Context, client kubernetes.Interface, number, pods int) error {
	name := fmt.Sprintf("node-%d", number)
	capacity := corev1.ResourceList{
		corev1.ResourceCPU:              resource.MustParse("1000"),
		corev1.ResourceMemory:           resource.MustParse("4Ti"),
		corev1.ResourceEphemeralStorage: resource.MustParse("4Ti"),
		corev1.ResourcePods:             *resource.NewQuantity(int64(pods), resource.DecimalSI),
	}
	now := metav1.Now()
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
			corev1.LabelHostname:   name,
			corev1.LabelOSStable:   "linux",
			corev1.LabelArchStable: "amd64",
		}},
		Status: corev1.NodeStatus{
			Capacity:    capacity,
			Allocatable: capacity,
			Addresses: []corev1.NodeAddress{
				{Type: corev1.NodeInternalIP, Address: addressOfNode(name)},
				{Type: corev1.NodeHostName, Address: name},
			},
			Conditions: []corev1.NodeCondition{{
				Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady",
				LastHeartbeatTime: now, LastTransitionTime: now,
			}},
			NodeInfo: corev1.NodeSystemInfo{
				KubeletVersion: version.Get().GitVersion, OperatingSystem: "linux", Architecture: "amd64",
			},
		},
	}
	return wait.PollUntilContextTimeout(ctx, 20*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		_, err := client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			klog.V(2).InfoS("node not registered yet", "node", name, "err", err)
			return false, nil
		}
		return true, nil
	})
}

func addressOfNode(name string) string {
	var number int
	_, _ = fmt.Sscanf(name, "node-%d", &number)
	return fmt.Sprintf("192.168.0.%d", number)
}

// life is what is known of a pod beside its object.
type life struct {
	fate
	seenAt time.Time
	// readyAt is when its containers became ready, endsAt when it is let go; zero before.
	readyAt, endsAt time.Time
}

type kubelet struct {
	options
	client kubernetes.Interface
	pods   corelisters.PodLister
	queue  workqueue.TypedDelayingInterface[cache.ObjectName]

	mutex     sync.Mutex
	lives     map[types.UID]*life
	addresses addresses
}

func (k *kubelet) OnAdd(object any, _ bool) {
	pod := object.(*corev1.Pod)
	k.mutex.Lock()
	k.addresses.keep(pod.UID, pod.Status.PodIP)
	k.mutex.Unlock()
	k.queue.Add(cache.MetaObjectToName(pod))
}

func (k *kubelet) OnUpdate(_, object any) {
	k.queue.Add(cache.MetaObjectToName(object.(*corev1.Pod)))
}

func (k *kubelet) OnDelete(object any) {
	if unknown, missed := object.(cache.DeletedFinalStateUnknown); missed {
		object = unknown.Obj
	}
	pod, isPod := object.(*corev1.Pod)
	if !isPod {
		return
	}
	k.mutex.Lock()
	defer k.mutex.Unlock()
	delete(k.lives, pod.UID)
	k.addresses.free(pod.UID)
}

func (k *kubelet) work(ctx context.Context) {
	for {
		name, shutDown := k.queue.Get()
		if shutDown {
			return
		}
		again, err := k.reconcile(ctx, name)
		switch {
		case err != nil:
			klog.ErrorS(err, "pod", "pod", name)
			k.queue.AddAfter(name, 100*time.Millisecond)
		case again > 0:
			k.queue.AddAfter(name, again)
		}
		k.queue.Done(name)
	}
}

// reconcile does what is due for a pod, and answers when to look at it again; 0 for when it changes.
func (k *kubelet) reconcile(ctx context.Context, name cache.ObjectName) (time.Duration, error) {
	pod, err := k.pods.Pods(name.Namespace).Get(name.Name)
	if apierrors.IsNotFound(err) || err == nil && pod.Spec.NodeName == "" {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	now := time.Now()
	k.mutex.Lock()
	known := k.lives[pod.UID]
	if known == nil {
		known = &life{fate: fateOf(pod, k.readyAfter), seenAt: now}
		k.lives[pod.UID] = known
	}
	k.mutex.Unlock()
	if pod.DeletionTimestamp != nil {
		return k.end(ctx, pod, known, now)
	}
	stage, again := stageOf(known, now)
	status := statusOf(pod, stage, known, now)
	if stage != starting && status.PodIP == "" {
		k.mutex.Lock()
		status.PodIP = k.addresses.give(pod.UID)
		k.mutex.Unlock()
		status.PodIPs = []corev1.PodIP{{IP: status.PodIP}}
	}
	if equality.Semantic.DeepEqual(status, pod.Status) {
		return again, nil
	}
	return again, k.write(ctx, pod, status)
}

// end lets a deleted pod go: what a kubelet does once its containers have ended.
func (k *kubelet) end(ctx context.Context, pod *corev1.Pod, known *life, now time.Time) (time.Duration, error) {
	if known.endsAt.IsZero() {
		known.endsAt = now.Add(k.endAfter)
	}
	if left := known.endsAt.Sub(now); left > 0 {
		return left, nil
	}
	err := k.client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{
		GracePeriodSeconds: new(int64),
		Preconditions:      &metav1.Preconditions{UID: &pod.UID},
	})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return 0, nil
	}
	return 0, err
}

// write patches the status as far as a kubelet owns it. Conditions are merged by their type, so that those of readiness
// gates stay.
func (k *kubelet) write(ctx context.Context, pod *corev1.Pod, status corev1.PodStatus) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": pod.UID}, "status": status})
	if err != nil {
		return err
	}
	_, err = k.client.CoreV1().Pods(pod.Namespace).
		Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}

type stage int

const (
	starting stage = iota
	withoutImage
	notReady
	ready
	crashed
)

// stageOf answers where in its life a pod is, and after what time it goes on; 0 where it stays.
func stageOf(l *life, now time.Time) (stage, time.Duration) {
	if left := l.seenAt.Add(l.readyAfter).Sub(now); left > 0 && !l.neverReady {
		return starting, left
	}
	if l.badImage {
		return withoutImage, 0
	}
	if l.neverReady {
		return notReady, 0
	}
	if l.readyAt.IsZero() {
		l.readyAt = now
	}
	if l.crashAfter == nil {
		return ready, 0
	}
	if left := l.readyAt.Add(*l.crashAfter).Sub(now); left > 0 {
		return ready, left
	}
	return crashed, 0
}

// statusOf answers the status that a pod is to have: its own with what the stage changes. Times of conditions that hold
// already are kept.
func statusOf(pod *corev1.Pod, at stage, l *life, now time.Time) corev1.PodStatus {
	status := *pod.Status.DeepCopy()
	since := metav1.NewTime(now.Truncate(time.Second))
	if status.StartTime == nil {
		status.StartTime = &since
	}
	status.HostIP = addressOfNode(pod.Spec.NodeName)
	status.HostIPs = []corev1.HostIP{{IP: status.HostIP}}
	status.Phase = corev1.PodPending
	if at == notReady || at == ready || at == crashed {
		status.Phase = corev1.PodRunning
	}
	status.ContainerStatuses = nil
	for _, container := range pod.Spec.Containers {
		status.ContainerStatuses = append(status.ContainerStatuses, containerStatus(container, at, pod, l, since))
	}
	set := func(kind corev1.PodConditionType, holds bool, reason, message string) {
		wanted := corev1.PodCondition{Type: kind, Status: corev1.ConditionTrue, LastTransitionTime: since}
		if !holds {
			wanted.Status, wanted.Reason, wanted.Message = corev1.ConditionFalse, reason, message
		}
		index := slices.IndexFunc(status.Conditions, func(c corev1.PodCondition) bool { return c.Type == kind })
		if index < 0 {
			status.Conditions = append(status.Conditions, wanted)
			return
		}
		have := &status.Conditions[index]
		if have.Status == wanted.Status {
			wanted.LastTransitionTime = have.LastTransitionTime
		}
		wanted.ObservedGeneration, wanted.LastProbeTime = have.ObservedGeneration, have.LastProbeTime
		*have = wanted
	}
	running := at == ready
	unready := fmt.Sprintf("containers with unready status: %v", namesOf(pod.Spec.Containers))
	set(corev1.PodReadyToStartContainers, at != starting, "", "")
	set(corev1.PodInitialized, true, "", "")
	set(corev1.ContainersReady, running, "ContainersNotReady", unready)
	switch missing := missingGates(pod); {
	case !running:
		set(corev1.PodReady, false, "ContainersNotReady", unready)
	case len(missing) > 0:
		set(corev1.PodReady, false, "ReadinessGatesNotReady", fmt.Sprintf("the status of pod readiness gates %v is not \"True\"", missing))
	default:
		set(corev1.PodReady, true, "", "")
	}
	return status
}

func containerStatus(container corev1.Container, at stage, pod *corev1.Pod, l *life, since metav1.Time) corev1.ContainerStatus {
	up := at == ready || at == notReady
	status := corev1.ContainerStatus{
		Name: container.Name, Image: container.Image, Ready: at == ready, Started: &up,
	}
	started := metav1.NewTime(l.seenAt.Truncate(time.Second))
	switch at {
	case starting:
		status.State.Waiting = &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}
	case withoutImage:
		status.State.Waiting = &corev1.ContainerStateWaiting{
			Reason: "ImagePullBackOff", Message: fmt.Sprintf("Back-off pulling image %q", container.Image),
		}
	case notReady, ready:
		status.State.Running = &corev1.ContainerStateRunning{StartedAt: started}
	case crashed:
		status.RestartCount = 1
		status.State.Waiting = &corev1.ContainerStateWaiting{
			Reason: "CrashLoopBackOff", Message: fmt.Sprintf("back-off 10s restarting failed container=%s pod=%s", container.Name, pod.Name),
		}
		ended := metav1.NewTime(l.readyAt.Add(*l.crashAfter).Truncate(time.Second))
		status.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{
			ExitCode: 1, Reason: "Error", StartedAt: started, FinishedAt: ended,
		}
	}
	return status
}

// missingGates answers the readiness gates whose condition is not True: with one of them a pod is not ready, and seeing
// to that is the kubelet's part.
func missingGates(pod *corev1.Pod) []corev1.PodConditionType {
	var missing []corev1.PodConditionType
	for _, gate := range pod.Spec.ReadinessGates {
		holds := slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == gate.ConditionType && c.Status == corev1.ConditionTrue
		})
		if !holds {
			missing = append(missing, gate.ConditionType)
		}
	}
	return missing
}

func namesOf(containers []corev1.Container) []string {
	var names []string
	for _, container := range containers {
		names = append(names, container.Name)
	}
	return names
}

// addresses gives every pod one of 10.244.0.0/16, and gives it to another only when all others had their turn.
type addresses struct {
	of   map[types.UID]string
	used map[string]bool
	last int
}

func (a *addresses) keep(pod types.UID, address string) {
	if a.of == nil {
		a.of, a.used = map[types.UID]string{}, map[string]bool{}
	}
	if address != "" {
		a.of[pod], a.used[address] = address, true
	}
}

func (a *addresses) give(pod types.UID) string {
	if known, has := a.of[pod]; has {
		return known
	}
	for {
		a.last = a.last%0xffff + 1
		address := fmt.Sprintf("10.244.%d.%d", a.last>>8, a.last&0xff)
		if last := a.last & 0xff; last == 0 || last == 0xff || a.used[address] {
			continue
		}
		a.keep(pod, address)
		return address
	}
}

func (a *addresses) free(pod types.UID) {
	delete(a.used, a.of[pod])
	delete(a.of, pod)
}
