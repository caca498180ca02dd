// What the views use of Preact 11, for the type check; Preact's own types cover much more.
export type Child = VNode | string | number | boolean | null | undefined | Child[];
export interface VNode { type: unknown; props: object; key: unknown; }
export function h(type: unknown, props: object | null, ...children: Child[]): VNode;
export function render(node: Child, parent: Element): void;
export const Fragment: unknown;
export class Component<Props = object, State = object> {
  constructor(props: Props);
  props: Props;
  state: State;
  setState(changed: Partial<State>, done?: () => void): void;
  forceUpdate(done?: () => void): void;
  componentDidMount?(): void;
  componentDidUpdate?(before: Props): void;
  componentWillUnmount?(): void;
  render(props: Props, state: State): Child;
}
