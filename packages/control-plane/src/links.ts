/** Where a pipeline is seen. */
export function pipelineLink({ publicUrl }: { publicUrl: string }, pipelineId: string): string {
  return `${publicUrl}/pipelines/${pipelineId}`;
}

/** Where the run of one target is seen. */
export function deploymentLink({ publicUrl }: { publicUrl: string }, deploymentId: string): string {
  return `${publicUrl}/deployments/${deploymentId}`;
}
