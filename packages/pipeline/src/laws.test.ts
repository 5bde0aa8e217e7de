import { cases as adoption } from './testing/adoption-cases.ts';
import { cases as deployment } from './testing/deployment-cases.ts';
import { cases as held } from './testing/held-cases.ts';
import { testLaws } from './testing/law-tests.ts';

testLaws('every order of events of small strategies', deployment);
testLaws('every order of events beside a hostile editor', held);
testLaws('every order of events around Deployment objects', adoption);
