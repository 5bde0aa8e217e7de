import { at, items, keys, type View } from './view.ts';

export type StepListPlace = 'canary' | 'blueGreen' | 'beforeDeployment' | 'afterDeployment';
export type StepList = { place: StepListPlace; list: View };

export function strategyStepLists(strategy: View): StepList[] {
  return [
    { place: 'canary', list: at(strategy, 'canary', 'steps') },
    { place: 'blueGreen', list: at(strategy, 'blueGreen', 'redirectTrafficAfter') },
    { place: 'blueGreen', list: at(strategy, 'blueGreen', 'shutDownOldVersionAfter') },
  ];
}

export function constraintStepLists(target: View): StepList[] {
  return [
    { place: 'beforeDeployment', list: at(target, 'constraints', 'beforeDeployment') },
    { place: 'afterDeployment', list: at(target, 'constraints', 'afterDeployment') },
  ];
}

/** Every step of these lists under every kind that it names (one, if it is well formed). */
export function stepsOf(lists: StepList[]): { place: StepListPlace; kind: string; body: View }[] {
  return lists.flatMap(({ place, list }) =>
    items(list).flatMap((step) => keys(step).map((kind) => ({ place, kind, body: at(step, kind) }))),
  );
}
